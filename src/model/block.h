// One block: mixer and MLP, each added to the residual stream and followed by the norm of what comes next.
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

namespace transxssm {

// The residual stream x and its norm u = RMSNorm(x), the input of the next mixer, MLP or head. They travel
// together because residual addition and norm are one operator.
struct Stream {
  at::Tensor x_btd;
  at::Tensor u_btd;
};

// x = r₁ ⊙ x + Mixer(u);  u = RMSNorm(x);  x = r₂ ⊙ x + MLP(u);  u = RMSNorm_next(x)
class Block {
 public:
  // `next_norm` is the first norm of the following block, or the final norm.
  Block(const ModelConfig& config, const std::string& prefix, const ParameterTable& table,
        std::unique_ptr<Mixer> mixer, ParameterPtr next_norm);

  Stream forward(const Stream& in, const ops::Documents& documents) const;
  Stream forward_cached(const Stream& in, MixerCache& cache, int64_t position) const;
  const Mixer& mixer() const { return *mixer_; }

 private:
  Stream finish(const at::Tensor& x_btd, const at::Tensor& mixed_btd) const;

  double eps_;
  std::unique_ptr<Mixer> mixer_;
  ParameterPtr next_norm_;
  ParameterPtr mixer_residual_, mlp_residual_;        // r₁, r₂ [D]; null with plain residuals
  ParameterPtr mlp_norm_, gate_up_proj_, down_proj_;  // null without an MLP
};

// Parameters of one block: norms, residual scales, mixer and MLP.
std::vector<ParameterSpec> block_specs(const ModelConfig& config, MixerKind mixer, const LayerInit& layer);

}  // namespace transxssm
