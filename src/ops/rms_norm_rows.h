// RMSNorm with the scaled residual before it, forward and backward, by the fastest code for the tensors at
// hand: CUDA kernels (bf16) or ATen.
#pragma once

#include "ops/rms_norm_kernel.h"

namespace transxssm::ops {

// r ⊙ x + branch and its norm. r undefined for 1; without a branch x itself is normed, and is the sum.
ResidualRmsNormResult residual_rms_norm_fwd(const at::Tensor& x, const at::Tensor& branch,
                                            const at::Tensor& r, const at::Tensor& w, double eps);

// As rms_norm_kernel_bwd, and with dy undefined: then only `d_other` is passed on, and nothing rebuilt.
RmsNormGradients residual_rms_norm_bwd(const at::Tensor& dy, const at::Tensor& d_other,
                                       const at::Tensor& normed, const at::Tensor& x, const ParameterPtr& r,
                                       const ParameterPtr& w, const at::Tensor& rstd, bool rebuild);

}  // namespace transxssm::ops
