#include "ops/rms_norm_kernel.h"

#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>

#include "csrc_cuda/rms_norm/gated_params.h"
#include "ops/cuda_stream.h"
#include "ops/kernel_arguments.h"

namespace transxssm::ops {
namespace {

bool fits(const at::Tensor& x, int64_t max_width) {
  return x.is_cuda() && x.scalar_type() == at::kBFloat16 && x.size(-1) % 8 == 0 && x.size(-1) > 0 &&
         x.size(-1) <= max_width;
}

at::Tensor empty_rstd(const at::Tensor& x) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = 1;
  return at::empty(shape, x.options().dtype(at::kFloat));
}

kernels::RmsNormForwardParams forward_params(const at::Tensor& x, const at::Tensor& w, double eps) {
  kernels::RmsNormForwardParams p{};
  p.x = x.const_data_ptr();
  p.w = w.const_data_ptr<float>();
  p.rows = row_count(x);
  p.d = static_cast<int>(x.size(-1));
  p.eps = static_cast<float>(eps);
  return p;
}

}  // namespace

bool has_rms_norm_kernel(const at::Tensor& x) { return fits(x, kernels::kMaxNormWidth); }
bool has_gated_rms_norm_kernel(const at::Tensor& y) { return fits(y, kernels::kMaxGatedNormWidth); }

reference::RmsNormResult rms_norm_kernel_fwd(const at::Tensor& x, const at::Tensor& w, double eps) {
  const c10::DeviceGuard guard(x.device());
  const at::Tensor rows = x.contiguous(), y = at::empty(x.sizes(), x.options()), rstd = empty_rstd(x);
  auto p = forward_params(rows, w, eps);
  p.y = y.mutable_data_ptr();
  p.rstd = rstd.mutable_data_ptr<float>();
  kernels::rms_norm_forward(p, current_stream(x));
  return {y, rstd};
}

ResidualRmsNormResult residual_rms_norm_kernel_fwd(const at::Tensor& x, const at::Tensor& branch,
                                                   const at::Tensor& r, const at::Tensor& w, double eps) {
  const c10::DeviceGuard guard(x.device());
  const at::Tensor rows = x.contiguous(), added = branch.contiguous();
  const at::Tensor sum = at::empty(x.sizes(), x.options()), u = at::empty(x.sizes(), x.options());
  const at::Tensor rstd = empty_rstd(x);
  auto p = forward_params(rows, w, eps);
  p.branch = added.const_data_ptr();
  p.r = f32_pointer(r);
  p.sum = sum.mutable_data_ptr();
  p.y = u.mutable_data_ptr();
  p.rstd = rstd.mutable_data_ptr<float>();
  kernels::rms_norm_forward(p, current_stream(x));
  return {sum, u, rstd};
}

RmsNormGradients rms_norm_kernel_bwd(const at::Tensor& dy, const at::Tensor& d_other,
                                     const at::Tensor& normed, const ParameterPtr& r, const ParameterPtr& w,
                                     const at::Tensor& rstd, bool rebuild) {
  const c10::DeviceGuard guard(dy.device());
  const auto contiguous = [](const at::Tensor& t) { return t.defined() ? t.contiguous() : t; };
  const at::Tensor dy_rows = contiguous(dy), other_rows = contiguous(d_other),
                   normed_rows = contiguous(normed);
  RmsNormGradients out;
  out.d_normed = at::empty(normed.sizes(), dy.options());
  if (rebuild) out.y = at::empty(normed.sizes(), dy.options());
  kernels::RmsNormBackwardParams p{};
  p.rows = row_count(normed);
  p.d = static_cast<int>(normed.size(-1));
  const at::Tensor partial_sums = at::empty({2, kernels::norm_parts(p.rows, p.d), p.d}, rstd.options());
  p.dy = dy_rows.const_data_ptr();
  p.d_other = pointer(other_rows);
  p.normed = normed_rows.const_data_ptr();
  p.r = r ? r->weight.const_data_ptr<float>() : nullptr;
  p.w = w->weight.const_data_ptr<float>();
  p.rstd = rstd.const_data_ptr<float>();
  p.d_normed = out.d_normed.mutable_data_ptr();
  p.y = rebuild ? out.y.mutable_data_ptr() : nullptr;
  p.partial_sums = partial_sums.mutable_data_ptr<float>();
  p.dw = gradient_pointer(w);
  p.dr = gradient_pointer(r);
  kernels::rms_norm_backward(p, current_stream(dy));
  return out;
}

reference::RmsNormResult gated_rms_norm_kernel_fwd(const at::Tensor& y, const at::Tensor& z,
                                                   const at::Tensor& w, double eps) {
  const c10::DeviceGuard guard(y.device());
  const at::Tensor rows = y.contiguous(), gates = vector_rows(z);
  const at::Tensor out = at::empty(y.sizes(), y.options()), rstd = empty_rstd(y);
  kernels::gated_rms_norm_forward({.y = rows.const_data_ptr(),
                                   .z = gates.const_data_ptr(),
                                   .w = w.const_data_ptr<float>(),
                                   .out = out.mutable_data_ptr(),
                                   .rstd = rstd.mutable_data_ptr<float>(),
                                   .rows = row_count(y),
                                   .z_stride = gates.stride(0),
                                   .d = static_cast<int>(y.size(-1)),
                                   .eps = static_cast<float>(eps)},
                                  current_stream(y));
  return {out, rstd};
}

at::Tensor gated_rms_norm_kernel_bwd(const at::Tensor& d_out, const at::Tensor& y, const at::Tensor& z,
                                     const ParameterPtr& w, const at::Tensor& rstd, const at::Tensor& dz) {
  const c10::DeviceGuard guard(y.device());
  const at::Tensor d_rows = d_out.contiguous(), rows = y.contiguous(), gates = vector_rows(z);
  const at::Tensor dz_rows = dz.view({-1, dz.size(-1)}), dy = at::empty(y.sizes(), y.options());
  const int64_t count = row_count(y), d = y.size(-1);
  const at::Tensor partial_sums = at::empty({kernels::gated_norm_parts(count, d), d}, rstd.options());
  kernels::gated_rms_norm_backward({.d_out = d_rows.const_data_ptr(),
                                    .y = rows.const_data_ptr(),
                                    .z = gates.const_data_ptr(),
                                    .w = w->weight.const_data_ptr<float>(),
                                    .rstd = rstd.const_data_ptr<float>(),
                                    .dy = dy.mutable_data_ptr(),
                                    .dz = dz_rows.mutable_data_ptr(),
                                    .partial_sums = partial_sums.mutable_data_ptr<float>(),
                                    .dw = gradient_pointer(w),
                                    .rows = count,
                                    .z_stride = gates.stride(0),
                                    .dz_stride = dz_rows.stride(0),
                                    .d = static_cast<int>(d)},
                                   current_stream(y));
  return dy;
}

}  // namespace transxssm::ops
