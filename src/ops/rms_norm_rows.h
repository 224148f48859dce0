// RMSNorm with the scaled residual before it, forward and backward, by the fastest code for the tensors at
// hand: CUDA kernels (bf16) or ATen.
#pragma once

#include <optional>

#include "ops/rms_norm.h"
#include "ops/rms_norm_kernel.h"

namespace transxssm::ops {

// The sum and its norm. Without a branch x itself is normed, and is the sum.
ResidualRmsNormResult residual_rms_norm_fwd(const Residual& in, const at::Tensor& w, double eps);

// As rms_norm_kernel_bwd, and with dy undefined: then only `d_other` is passed on, and nothing rebuilt.
RmsNormGradients residual_rms_norm_bwd(const at::Tensor& dy, const at::Tensor& d_other,
                                       const at::Tensor& normed, const ParameterPtr& r, const ParameterPtr& w,
                                       const at::Tensor& rstd, bool rebuild);

// Throws where shapes, types or scales do not fit.
void check_residual(const Residual& in, const ParameterPtr& w, const ParameterPtr& r_out);

// As autograd wants an operand that may be absent.
inline std::optional<at::Tensor> given(const at::Tensor& x) {
  return x.defined() ? std::optional(x) : std::nullopt;
}

}  // namespace transxssm::ops
