// The network (keys under `model:`).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "config/fields.h"

namespace transxssm {

enum class MixerKind { ssd, attention };
enum class ResidualKind { learned, plain };
enum class SsdInit { mamba2, published };
enum class RopeScaling { none, linear, ntk, yarn, llama3 };
enum class Recompute { none, selective, full };  // a key under `train:`; the network carries it out

constexpr auto enum_names(ResidualKind) {
  return std::to_array<EnumName<ResidualKind>>(
      {{ResidualKind::learned, "learned"}, {ResidualKind::plain, "plain"}});
}
constexpr auto enum_names(SsdInit) {
  return std::to_array<EnumName<SsdInit>>({{SsdInit::mamba2, "mamba2"}, {SsdInit::published, "published"}});
}
constexpr auto enum_names(RopeScaling) {
  return std::to_array<EnumName<RopeScaling>>({{RopeScaling::none, "none"},
                                               {RopeScaling::linear, "linear"},
                                               {RopeScaling::ntk, "ntk"},
                                               {RopeScaling::yarn, "yarn"},
                                               {RopeScaling::llama3, "llama3"}});
}
constexpr auto enum_names(Recompute) {
  return std::to_array<EnumName<Recompute>>(
      {{Recompute::none, "none"}, {Recompute::selective, "selective"}, {Recompute::full, "full"}});
}

struct LayersConfig {
  int64_t attention_period = 8;
  int64_t attention_offset = 7;
  std::string pattern;
  bool operator==(const LayersConfig&) const = default;
};

template <SelfOf<LayersConfig> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(Field{.name = "attention_period",
              .doc =
                  "Layer i is attention when i % attention_period equals attention_offset, else SSD. Divides "
                  "`model.num_layers`.",
              .unit = "layers",
              .bounds = between(1, 10000)},
        self.attention_period);
  visit(Field{.name = "attention_offset",
              .doc = "See attention_period; smaller than it.",
              .unit = "layers",
              .bounds = between(0, 9999)},
        self.attention_offset);
  visit(Field{.name = "pattern",
              .doc =
                  "Instead of period and offset: one letter a layer, S for SSD and A for attention, repeated "
                  "until `model.num_layers`. `S` is a pure SSM, `A` a pure Transformer."},
        self.pattern);
}

struct AttentionConfig {
  int64_t num_heads = 8;
  int64_t num_kv_heads = 8;
  int64_t head_dim = 128;
  bool qk_norm = false;
  bool rope = true;
  bool operator==(const AttentionConfig&) const = default;
};

template <SelfOf<AttentionConfig> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(Field{.name = "num_heads", .doc = "Query heads.", .bounds = between(1, 4096)}, self.num_heads);
  visit(Field{.name = "num_kv_heads",
              .doc = "Heads of keys and values; divides num_heads.",
              .bounds = between(1, 4096)},
        self.num_kv_heads);
  visit(Field{.name = "head_dim",
              .doc = "Width of a head; even with `rope`.",
              .unit = "channels",
              .bounds = between(1, 1024)},
        self.head_dim);
  visit(Field{.name = "qk_norm", .doc = "RMSNorm on each head of Q and K before the rotation."},
        self.qk_norm);
  visit(Field{.name = "rope", .doc = "Rotate Q and K; false leaves attention without positions."}, self.rope);
}

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
  bool operator==(const SsdConfig&) const = default;
};

template <SelfOf<SsdConfig> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(Field{.name = "num_heads", .doc = "Heads of X.", .bounds = between(1, 4096)}, self.num_heads);
  visit(
      Field{
          .name = "head_dim", .doc = "Width of a head of X.", .unit = "channels", .bounds = between(1, 1024)},
      self.head_dim);
  visit(Field{.name = "state_dim",
              .doc = "Width of the state: channels of C and B of a group; even with `rope`.",
              .unit = "channels",
              .bounds = between(1, 1024)},
        self.state_dim);
  visit(Field{.name = "num_groups",
              .doc = "Groups of heads that share C and B; divides num_heads.",
              .bounds = between(1, 4096)},
        self.num_groups);
  visit(Field{.name = "chunk_size",
              .doc = "Chunk of the scan, a power of two. Changes speed and rounding, not the function.",
              .unit = "tokens",
              .bounds = between(16, 256),
              .effect = Effect::none},
        self.chunk_size);
  visit(Field{.name = "rope", .doc = "Rotate C and B with the table that attention uses."}, self.rope);
  visit(
      Field{.name = "init",
            .doc = "Initial A_log and dt_bias. mamba2: A uniform in a_init_range, Δ log-uniform in [dt_min, "
                   "dt_max]; published: A = 1 and dt_bias = 0, as in the authors' code."},
      self.init);
  visit(Field{.name = "dt_min",
              .doc = "Smallest initial Δ.",
              .bounds = above(0),
              .only_with = {"init", {"mamba2"}}},
        self.dt_min);
  visit(Field{.name = "dt_max",
              .doc = "Largest initial Δ.",
              .bounds = above(0),
              .only_with = {"init", {"mamba2"}}},
        self.dt_max);
  visit(Field{.name = "a_init_range",
              .doc = "Range of the initial A.",
              .bounds = above(0),
              .size = 2,
              .only_with = {"init", {"mamba2"}}},
        self.a_init_range);
  visit(
      Field{.name = "conv_width",
            .doc =
                "Causal depthwise convolution with bias and SiLU on X, B and C; 0 for none, else at least 2.",
            .unit = "tokens",
            .bounds = between(0, 16)},
      self.conv_width);
  visit(Field{.name = "gate", .doc = "Gate z = W_z u with RMSNorm after it, before W_o."}, self.gate);
  visit(Field{.name = "d_skip", .doc = "Adds D ⊙ X to the output, one D a head."}, self.d_skip);
  visit(Field{.name = "bc_norm", .doc = "RMSNorm on each group of B and C before the rotation."},
        self.bc_norm);
}

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
  bool operator==(const RopeConfig&) const = default;
};

template <SelfOf<RopeConfig> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(Field{.name = "theta", .doc = "Base of the angles.", .bounds = above(1)}, self.theta);
  visit(Field{.name = "scaling", .doc = "Long-context variant."}, self.scaling);
  visit(Field{.name = "factor",
              .doc = "How many times longer than the original context.",
              .bounds = at_least(1),
              .only_with = {"scaling", {"linear", "ntk", "yarn", "llama3"}}},
        self.factor);
  visit(Field{.name = "original_max_position",
              .doc = "Context before the extension.",
              .unit = "tokens",
              .bounds = between(1, 1e9),
              .only_with = {"scaling", {"yarn", "llama3"}}},
        self.original_max_position);
  visit(Field{.name = "beta_fast",
              .doc = "Turns over the original context above which a frequency is kept.",
              .bounds = above(0),
              .only_with = {"scaling", {"yarn"}}},
        self.beta_fast);
  visit(Field{.name = "beta_slow",
              .doc = "Turns over the original context below which a frequency is divided by factor.",
              .bounds = above(0),
              .only_with = {"scaling", {"yarn"}}},
        self.beta_slow);
  visit(Field{.name = "attention_factor",
              .doc = "Scale of Q, K and of C, B; 0 for 0.1 ln(factor) + 1.",
              .bounds = at_least(0),
              .only_with = {"scaling", {"yarn"}}},
        self.attention_factor);
  visit(Field{.name = "low_freq_factor",
              .doc = "Turns over the original context below which a frequency is divided by factor.",
              .bounds = above(0),
              .only_with = {"scaling", {"llama3"}}},
        self.low_freq_factor);
  visit(Field{.name = "high_freq_factor",
              .doc = "Turns over the original context above which a frequency is kept.",
              .bounds = above(0),
              .only_with = {"scaling", {"llama3"}}},
        self.high_freq_factor);
}

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
  bool operator==(const ModelConfig&) const = default;
};

template <SelfOf<ModelConfig> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(Field{.name = "vocab_size",
              .doc = "Rows of the embedding, at least the tokenizer's pieces; padding rows are allowed.",
              .unit = "tokens",
              .bounds = between(2, 16777216)},
        self.vocab_size);
  visit(Field{.name = "hidden_size",
              .doc = "Width of the residual stream.",
              .unit = "channels",
              .bounds = between(1, 1048576)},
        self.hidden_size);
  visit(Field{.name = "num_layers", .doc = "Blocks.", .bounds = between(1, 10000)}, self.num_layers);
  visit(Field{.name = "intermediate_size",
              .doc = "Width of the MLP; 0 leaves the MLP half of each block out.",
              .unit = "channels",
              .bounds = between(0, 4194304)},
        self.intermediate_size);
  visit(Field{.name = "norm_eps", .doc = "Epsilon of every RMSNorm.", .bounds = between(1e-12, 1e-1)},
        self.norm_eps);
  visit(Field{.name = "tie_word_embeddings", .doc = "The output head is the embedding."},
        self.tie_word_embeddings);
  visit(Field{.name = "residual",
              .doc = "learned: a scale per channel on the residual of each half-block, from 1; plain: none."},
        self.residual);
  visit(Field{.name = "init_std",
              .doc = "Standard deviation of initial matrices and embeddings, truncated at 3 σ.",
              .bounds = Bounds{.min = 0, .max = 1, .min_open = true}},
        self.init_std);
  visit(Field{.name = "scale_residual_init", .doc = "Divides initial W_o and W_down by √(2 num_layers)."},
        self.scale_residual_init);
  visit(Field{.name = "layers", .doc = "Which layers are attention."}, self.layers);
  visit(Field{.name = "attention", .doc = "The attention mixer."}, self.attention);
  visit(Field{.name = "ssd", .doc = "The SSD mixer."}, self.ssd);
  visit(Field{.name = "rope", .doc = "The rotary table that both mixers share."}, self.rope);
}

// The mixer of each layer, from `pattern` or from period and offset.
std::vector<MixerKind> layer_mixers(const ModelConfig& config);
bool has_mixer(const ModelConfig& config, MixerKind kind);  // in one layer at least

}  // namespace transxssm
