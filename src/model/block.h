// One block: mixer and MLP, each of which reads the norm of the residual stream.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "config/model_config.h"
#include "core/parameter.h"
#include "model/mixer.h"
#include "ops/documents.h"
#include "ops/norm_linear.h"

namespace transxssm {

// x = r₁ ⊙ x + Mixer(RMSNorm(x));  x = r₂ ⊙ x + MLP(RMSNorm(x)). Blocks hand each other such a sum before it
// is formed: residual addition, norm and the product that follows are one operator.
class Block {
 public:
  Block(const ModelConfig& config, const std::string& prefix, const ParameterTable& table,
        std::unique_ptr<Mixer> mixer, ops::NormedInput normed);

  ops::Residual forward(const ops::Residual& in, const ops::Documents& documents) const;

  // Decoding (Mixer): of a prompt, and of one token a row. `last_only`: only each prompt's last token goes
  // on.
  ops::Residual prefill(const ops::Residual& in, const Prompts& prompts, MixerCache& cache,
                        bool last_only) const;
  ops::Residual step(const ops::Residual& in, const at::Tensor& positions_b, MixerCache& cache) const;
  const Mixer& mixer() const { return *mixer_; }
  const ParameterPtr& scale_out() const {
    return mlp_norm_ ? mlp_residual_ : mixer_residual_;
  }  // r of forward

 private:
  template <class Mix>
  ops::Residual mixed(const ops::Residual& in, Mix&& mix) const;
  ops::Residual finish(const ops::Residual& in) const;

  double eps_;
  ops::NormedInput normed_;
  std::unique_ptr<Mixer> mixer_;
  ParameterPtr mixer_norm_;
  ParameterPtr mixer_residual_, mlp_residual_;        // r₁, r₂ [D]; null with plain residuals
  ParameterPtr mlp_norm_, gate_up_proj_, down_proj_;  // null without an MLP
};

// Parameters of one block: norms, residual scales, mixer and MLP.
std::vector<ParameterSpec> block_specs(const ModelConfig& config, MixerKind mixer, const LayerInit& layer);

}  // namespace transxssm
