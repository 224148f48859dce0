// The step between two halves of a block: scaled residual, norm, and the product that reads it.
#pragma once

#include <utility>

#include <ATen/core/Tensor.h>

#include "core/parameter.h"
#include "ops/rms_norm.h"

namespace transxssm::ops {

// Whether the product's input is kept for backward, or written once more there by the norm's kernel.
enum class NormedInput { kept, rebuilt };

// {stream, u} = residual_rms_norm(in, w, eps, r_out), y = u Wᵀ. Returns {stream, y}: the same bits whether u
// is kept or rebuilt. Differentiable as residual_rms_norm, and in W (`projection`).
std::pair<Stream, at::Tensor> residual_norm_linear(const Residual& in, const ParameterPtr& w, double eps,
                                                   const ParameterPtr& r_out, const ParameterPtr& projection,
                                                   NormedInput normed);

}  // namespace transxssm::ops
