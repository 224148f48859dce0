// The step between two halves of a block: scaled residual, norm, and the product that reads it.
#pragma once

#include <utility>

#include <ATen/core/Tensor.h>

#include "core/parameter.h"

namespace transxssm::ops {

// r ⊙ x + branch, not yet added up: what a half of a block leaves.
struct Residual {
  at::Tensor x;       // [..., D]
  at::Tensor branch;  // like x; undefined: x alone, and r is null
  ParameterPtr r;     // [D] f32, null for 1
};

// Whether the product's input is kept for backward, or written once more there by the norm's kernel.
enum class NormedInput { kept, rebuilt };

// x' = r ⊙ x + branch, u = rms_norm(x', w), y = u Wᵀ. Returns {x', y}: the values and gradients of
// residual_rms_norm and linear, the same bits whether u is kept or rebuilt. Differentiable in x, branch, r, w
// and W (`projection`).
std::pair<at::Tensor, at::Tensor> residual_norm_linear(const Residual& in, const ParameterPtr& w, double eps,
                                                       const ParameterPtr& projection, NormedInput normed);

}  // namespace transxssm::ops
