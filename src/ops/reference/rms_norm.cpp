// RMSNorm and its backward in ATen. Mixed operands promote to f32 inside the kernels and are rounded on the
// way out, so bf16 tensors are never copied to f32 just to be read.
#include "ops/reference/rms_norm.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/add.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/mv.h>

#include "ops/accumulate_type.h"

namespace transxssm::ops::reference {

RmsNormResult rms_norm_fwd(const at::Tensor& x, const at::Tensor& w, double eps) {
  const at::Tensor norm = at::linalg_vector_norm(x, 2, -1, /*keepdim=*/true, accumulate_type(x));
  const at::Tensor rstd = (norm.square() / x.size(-1) + eps).rsqrt();
  return {rms_normed(x, w, rstd), rstd};
}

at::Tensor rms_normed(const at::Tensor& x, const at::Tensor& w, const at::Tensor& rstd) {
  at::Tensor y = at::empty(x.sizes(), x.options());
  return at::mul_out(y, x * rstd, w);
}

at::Tensor rms_norm_bwd(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& w,
                        const at::Tensor& rstd, const at::Tensor& dx_other, const at::Tensor& dw) {
  const int64_t width = x.size(-1);
  const at::Tensor normed = x * rstd;
  const at::Tensor dw_rows = (dy * normed).reshape({-1, width});
  if (dw.defined()) dw.add_(dw_rows.sum(0));
  const at::Tensor mean =
      (at::mv(dw_rows, w) / width).view(rstd.sizes());  // mean of normed ⊙ its own gradient
  const at::Tensor d_scaled = (dy * w).addcmul_(normed, mean, -1);
  at::Tensor dx = at::empty(x.sizes(), x.options());
  if (dx_other.defined()) return at::addcmul_out(dx, dx_other, d_scaled, rstd);
  return at::mul_out(dx, d_scaled, rstd);
}

at::Tensor scaled_residual(const at::Tensor& x, const at::Tensor& branch, const at::Tensor& r) {
  if (!r.defined()) return at::add(x, branch);
  at::Tensor out = at::empty(x.sizes(), x.options());
  return at::addcmul_out(out, branch, x, r);
}

}  // namespace transxssm::ops::reference
