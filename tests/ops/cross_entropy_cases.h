// Cross-entropy: the literal formula and arguments, shared by the CPU and CUDA tests.
#pragma once

#include "linear_cases.h"
#include "ops/cross_entropy.h"

namespace transxssm {

// Every `skip`-th label is not counted.
inline OpCase cross_entropy_case(int64_t rows, int64_t width, int64_t vocabulary, double z_loss,
                                 int64_t skip = 3) {
  at::Tensor labels = some_tokens({rows}, vocabulary, 9);
  labels.slice(0, 0, rows, skip).fill_(-1);
  return {concat("cross_entropy ", rows, "x", width, " of ", vocabulary, ", z_loss ", z_loss),
          [=](const Tensors& x, const std::vector<ParameterPtr>& w) {
            return Tensors{ops::cross_entropy(x[0], w[0], x[1], z_loss).objective};
          },
          [=](const Tensors& x, const Tensors& w) {
            const at::Tensor logits = x[0].matmul(w[0].t());
            const at::Tensor log_z = logits.logsumexp(1);
            const at::Tensor picked = logits.gather(1, x[1].clamp_min(0).unsqueeze(1)).squeeze(1);
            return Tensors{((log_z - picked + z_loss * log_z.square()) * x[1].ge(0)).sum()};
          },
          {f64_tensor({rows, width}, 7), labels},
          {f64_parameter("weight", {vocabulary, width}, 8)}};
}

}  // namespace transxssm
