#include "ops/rms_norm_rows.h"

#include <ATen/ops/mul.h>

#include "ops/accumulate_type.h"
#include "ops/check_tensor.h"

namespace transxssm::ops {

ResidualRmsNormResult residual_rms_norm_fwd(const Residual& in, const at::Tensor& w, double eps) {
  const auto& [x, scale] = in.stream;
  const at::Tensor r = scale ? scale->weight : at::Tensor();
  const bool kernel = has_rms_norm_kernel(x);
  if (kernel && in.branch.defined()) return residual_rms_norm_kernel_fwd(x, in.branch, r, w, eps);
  const at::Tensor sum = in.branch.defined() ? reference::scaled_residual(x, in.branch, r) : x;
  const auto [y, rstd] = kernel ? rms_norm_kernel_fwd(sum, w, eps) : reference::rms_norm_fwd(sum, w, eps);
  return {sum, y, rstd};
}

void check_residual(const Residual& in, const ParameterPtr& w, const ParameterPtr& r_out) {
  const auto& [x, r] = in.stream;
  expect_shape("residual_rms_norm weight", w->weight, {x.size(-1)});
  if (r) expect_shape("residual_rms_norm scale", r->weight, {x.size(-1)});
  if (r_out) expect_shape("residual_rms_norm scale of the sum", r_out->weight, {x.size(-1)});
  expect(in.branch.defined() || !r, "residual_rms_norm: a scaled stream without a branch");
  if (!in.branch.defined()) return;
  expect_shape("residual_rms_norm branch", in.branch, x.sizes());
  expect_dtype("residual_rms_norm branch", in.branch, x.scalar_type());
}

RmsNormGradients residual_rms_norm_bwd(const at::Tensor& dy, const at::Tensor& d_other,
                                       const at::Tensor& normed, const ParameterPtr& r, const ParameterPtr& w,
                                       const at::Tensor& rstd, bool rebuild) {
  if (dy.defined() && has_rms_norm_kernel(normed))
    return rms_norm_kernel_bwd(dy, d_other, normed, r, w, rstd, rebuild);
  at::Tensor passed = d_other;
  if (d_other.defined() && r) {
    passed = at::mul(d_other, r->weight);
    if (r->grad.defined())
      r->grad.add_(at::mul(to_accumulate_type(d_other), normed).reshape({-1, normed.size(-1)}).sum(0));
  }
  if (!dy.defined()) return {passed.to(normed.scalar_type()), {}};
  return {reference::rms_norm_bwd(dy, normed, w->weight, rstd, passed, w->grad),
          rebuild ? reference::rms_normed(normed, w->weight, rstd) : at::Tensor()};
}

}  // namespace transxssm::ops
