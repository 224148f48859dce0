// The CUDA kernels of the norms: tensors to pointers, outputs and workspace.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/parameter.h"
#include "ops/reference/rms_norm.h"

namespace transxssm::ops {

// Whether the kernels take rows like those of `x`: bf16 on CUDA, a width that is a multiple of 8 and at most
// 8192.
bool has_rms_norm_kernel(const at::Tensor& x);

// As in ops/reference/rms_norm.h.
reference::RmsNormResult rms_norm_kernel_fwd(const at::Tensor& x, const at::Tensor& w, double eps);

struct ResidualRmsNormResult {
  at::Tensor sum;   // like x
  at::Tensor u;     // like x
  at::Tensor rstd;  // [..., 1] f32
};

// r undefined for 1.
ResidualRmsNormResult residual_rms_norm_kernel_fwd(const at::Tensor& x, const at::Tensor& branch,
                                                   const at::Tensor& r, const at::Tensor& w, double eps);

struct RmsNormGradients {
  at::Tensor d_normed;  // of what was normed
  at::Tensor y;         // the forward pass's y once more, bit for bit; undefined unless asked for
};

// `d_other`: gradient of r ⊙ normed, or undefined. Gradients of the parameters are added to theirs.
RmsNormGradients rms_norm_kernel_bwd(const at::Tensor& dy, const at::Tensor& d_other,
                                     const at::Tensor& normed, const ParameterPtr& r, const ParameterPtr& w,
                                     const at::Tensor& rstd, bool rebuild);

bool has_gated_rms_norm_kernel(const at::Tensor& y);  // as above, a width of at most 4096

// rms_norm(y ⊙ silu(z), w). z may be columns of wider rows.
reference::RmsNormResult gated_rms_norm_kernel_fwd(const at::Tensor& y, const at::Tensor& z,
                                                   const at::Tensor& w, double eps);

// Gradient of y; that of z goes to `dz`, like z, whose rows may be strided as well.
at::Tensor gated_rms_norm_kernel_bwd(const at::Tensor& d_out, const at::Tensor& y, const at::Tensor& z,
                                     const ParameterPtr& w, const at::Tensor& rstd, const at::Tensor& dz);

}  // namespace transxssm::ops
