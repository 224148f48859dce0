#include "ops/rms_norm_rows.h"

#include <ATen/ops/mul.h>

#include "ops/accumulate_type.h"

namespace transxssm::ops {

ResidualRmsNormResult residual_rms_norm_fwd(const at::Tensor& x, const at::Tensor& branch,
                                            const at::Tensor& r, const at::Tensor& w, double eps) {
  const bool kernel = has_rms_norm_kernel(x);
  if (kernel && branch.defined()) return residual_rms_norm_kernel_fwd(x, branch, r, w, eps);
  const at::Tensor sum = branch.defined() ? reference::scaled_residual(x, branch, r) : x;
  const auto [y, rstd] = kernel ? rms_norm_kernel_fwd(sum, w, eps) : reference::rms_norm_fwd(sum, w, eps);
  return {sum, y, rstd};
}

RmsNormGradients residual_rms_norm_bwd(const at::Tensor& dy, const at::Tensor& d_other,
                                       const at::Tensor& normed, const at::Tensor& x, const ParameterPtr& r,
                                       const ParameterPtr& w, const at::Tensor& rstd, bool rebuild) {
  if (dy.defined() && has_rms_norm_kernel(normed))
    return rms_norm_kernel_bwd(dy, d_other, normed, x, r, w, rstd, rebuild);
  RmsNormGradients out{.d_normed = d_other, .dx = {}, .y = {}};
  if (dy.defined()) {
    out.d_normed = reference::rms_norm_bwd(dy, normed, w->weight, rstd, d_other, w->grad);
    if (rebuild) out.y = reference::rms_normed(normed, w->weight, rstd);
  }
  out.dx = r ? at::mul(out.d_normed, r->weight).to(x.scalar_type()) : out.d_normed;
  if (r && r->grad.defined())
    r->grad.add_(at::mul(to_accumulate_type(out.d_normed), x).reshape({-1, x.size(-1)}).sum(0));
  return out;
}

}  // namespace transxssm::ops
