// The token-mixing half of a block: SSD or attention. One interface, so that a layer pattern is only
// configuration.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "config/model_config.h"
#include "core/parameter.h"
#include "model/prompts.h"
#include "ops/attention.h"
#include "ops/documents.h"
#include "ops/rope.h"
#include "ops/ssd.h"

namespace transxssm {

// What a mixer remembers of the tokens it has seen, while decoding.
struct MixerCache {
  virtual ~MixerCache() = default;
};

class Mixer {
 public:
  virtual ~Mixer() = default;

  // The matrix that makes the packed input of forward from the normed stream. The block multiplies by it:
  // norm and product are one operator.
  virtual const ParameterPtr& projection() const = 0;

  // packed_btw [B, T, W] → [B, T, D]; tokens see only their own document.
  virtual at::Tensor forward(const at::Tensor& packed_btw, const ops::Documents& documents) const = 0;

  // Decoding, without gradients; the cache's tensors keep their memory, so that a captured step can be
  // replayed.
  //
  // A prompt's tokens in one pass: forward(), and what the cache has to hold after each row's last token.
  // `last_only`: that of each prompt's last token alone, [B, D].
  virtual at::Tensor prefill(const at::Tensor& packed_btw, const Prompts& prompts, MixerCache& cache,
                             bool last_only) const = 0;
  // One token a row, at positions_b [B]: packed_bw [B, W] → [B, D].
  virtual at::Tensor step(const at::Tensor& packed_bw, const at::Tensor& positions_b,
                          MixerCache& cache) const = 0;
  virtual std::unique_ptr<MixerCache> make_cache(int64_t batch, int64_t capacity) const = 0;
};

// How the parameters of one layer are described: `prefix` is "layers.N.", `output_std` that of W_o and
// W_down.
struct LayerInit {
  std::string prefix;
  double std = 0;
  double output_std = 0;
};

// What an SSD layer asks of ops::ssd.
ops::SsdDims ssd_dims(const SsdConfig& config, ops::SsdPath path);

// What an attention layer asks of ops::attention.
ops::AttentionDims attention_dims(const AttentionConfig& config, ops::AttentionPath path);

std::vector<ParameterSpec> ssd_mixer_specs(const ModelConfig& config, const LayerInit& layer);
std::vector<ParameterSpec> attention_mixer_specs(const ModelConfig& config, const LayerInit& layer);

// `rope` outlives the mixer; null means no rotation.
std::unique_ptr<Mixer> make_ssd_mixer(const ModelConfig& config, const std::string& prefix,
                                      const ParameterTable& table, const ops::RopeTable* rope,
                                      ops::SsdPath path);
std::unique_ptr<Mixer> make_attention_mixer(const ModelConfig& config, const std::string& prefix,
                                            const ParameterTable& table, const ops::RopeTable* rope,
                                            bool deterministic, ops::AttentionPath path);

}  // namespace transxssm
