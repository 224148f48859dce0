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

// The residual stream between two halves of a block: stands for r ⊙ x, of which x is stored. Autograd's
// gradient of `x` is that of r ⊙ x: the norm of x multiplies it by r and forms r's gradient on the way, so
// that neither product takes a pass of its own.
struct Stream {
  at::Tensor x;    // [..., D]
  ParameterPtr r;  // [D] f32, null for 1
};

// Stream and what a half of a block adds to it, not yet added up: r ⊙ x + branch.
struct Residual {
  Stream stream;
  at::Tensor branch;  // like x; undefined for none
};

// x' = r ⊙ x + branch, u = rms_norm(x', w). The sum is formed in f32, u from its stored (rounded) value.
// Returns {x' to be read as r_out ⊙ x', u}. Differentiable in r ⊙ x, branch, r_out and w.
std::pair<Stream, at::Tensor> residual_rms_norm(const Residual& in, const ParameterPtr& w, double eps,
                                                const ParameterPtr& r_out);

// Mamba-2's output norm: rms_norm(y ⊙ silu(z), w). y, z [..., D] alike (z may be a strided view), w [D].
// Differentiable in y, z and w.
at::Tensor gated_rms_norm(const at::Tensor& y, const at::Tensor& z, const ParameterPtr& w, double eps);

}  // namespace transxssm::ops
