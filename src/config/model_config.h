// The network (keys under `model:`).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace transxssm {

enum class MixerKind { ssd, attention };
enum class ResidualKind { learned, plain };
enum class SsdInit { mamba2, published };
enum class RopeScaling { none, linear, ntk, yarn, llama3 };

struct LayersConfig {
  int64_t attention_period = 8;
  int64_t attention_offset = 7;
  std::string pattern;
};

struct AttentionConfig {
  int64_t num_heads = 8;
  int64_t num_kv_heads = 8;
  int64_t head_dim = 128;
  bool qk_norm = false;
  bool rope = true;
};

struct SsdConfig {
  int64_t num_heads = 8;
  int64_t head_dim = 128;
  int64_t state_dim = 128;
  int64_t num_groups = 8;
  int64_t chunk_size = 128;
  bool rope = true;
  SsdInit init = SsdInit::mamba2;
  double dt_min = 1e-3;
  double dt_max = 1e-1;
  std::vector<double> a_init_range = {1.0, 16.0};
  int64_t conv_width = 0;
  bool gate = false;
  bool d_skip = false;
  bool bc_norm = false;
};

struct RopeConfig {
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1.0;
  int64_t original_max_position = 4096;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double attention_factor = 0.0;  // 0: by the variant's formula
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
};

struct ModelConfig {
  int64_t vocab_size = 32768;
  int64_t hidden_size = 1024;
  int64_t num_layers = 32;
  int64_t intermediate_size = 2048;
  double norm_eps = 1e-6;
  bool tie_word_embeddings = true;
  ResidualKind residual = ResidualKind::learned;
  double init_std = 0.02;
  bool scale_residual_init = false;
  LayersConfig layers;
  AttentionConfig attention;
  SsdConfig ssd;
  RopeConfig rope;
};

// The mixer of each layer, from `pattern` or from period and offset.
std::vector<MixerKind> layer_mixers(const ModelConfig& config);

}  // namespace transxssm
