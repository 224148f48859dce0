// RMSNorm and its backward in ATen, for any dtype and device.
#pragma once

#include <ATen/core/Tensor.h>

namespace transxssm::ops::reference {

struct RmsNormResult {
  at::Tensor y;     // [..., D] like x
  at::Tensor rstd;  // [..., 1] f32 (f64): rsqrt(mean(x²) + eps)
};

// x [..., D], w [D].
RmsNormResult rms_norm_fwd(const at::Tensor& x, const at::Tensor& w, double eps);

// rms_norm_fwd's y once more, bit for bit.
at::Tensor rms_normed(const at::Tensor& x, const at::Tensor& w, const at::Tensor& rstd);

// Returns dx + `dx_other` (left out when undefined), like x, rounded once. dw is added to `dw` [D] unless
// undefined.
at::Tensor rms_norm_bwd(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& w,
                        const at::Tensor& rstd, const at::Tensor& dx_other, const at::Tensor& dw);

// r ⊙ x + branch, like x; r [D] or undefined for 1.
at::Tensor scaled_residual(const at::Tensor& x, const at::Tensor& branch, const at::Tensor& r);

}  // namespace transxssm::ops::reference
