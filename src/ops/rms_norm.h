// RMSNorm, alone, fused with the scaled residual, and gated. CUDA: kernels for bf16 with D a multiple of 8 up
// to 8192 (gated: 4096), ATen for the rest.
#pragma once

#include <utility>

#include <ATen/core/Tensor.h>

#include "core/parameter.h"

namespace transxssm::ops {

// y = x · rsqrt(mean(x²) + eps) ⊙ w over the last dimension. x [..., D] f32|bf16|f64, w [D] f32, y like x.
// Statistics in f32 (f64 for f64). Differentiable in x and w.
at::Tensor rms_norm(const at::Tensor& x, const ParameterPtr& w, double eps);

// The step between two halves of a block: x' = r ⊙ x + branch, u = rms_norm(x', w). r [D] f32, null for r
// = 1. x, branch [..., D] alike; the sum is formed in f32, u from its stored (rounded) value. Returns {x',
// u}. Differentiable in x, branch, r and w.
std::pair<at::Tensor, at::Tensor> residual_rms_norm(const at::Tensor& x, const at::Tensor& branch,
                                                    const ParameterPtr& r, const ParameterPtr& w, double eps);

// Mamba-2's output norm: rms_norm(y ⊙ silu(z), w). y, z [..., D] alike (z may be a strided view), w [D].
// Differentiable in y, z and w.
at::Tensor gated_rms_norm(const at::Tensor& y, const at::Tensor& z, const ParameterPtr& w, double eps);

}  // namespace transxssm::ops
