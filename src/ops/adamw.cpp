#include "ops/adamw.h"

#include <cmath>

#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <c10/util/BFloat16.h>

#include "core/check.h"
#include "csrc_cuda/adamw/params.h"
#include "ops/cuda_stream.h"

namespace transxssm::ops {
namespace {

void expect_like(const char* what, const at::Tensor& x, const at::Tensor& master, at::ScalarType dtype) {
  expect(x.dim() == 1 && x.numel() == master.numel() && x.is_contiguous() && x.scalar_type() == dtype &&
             x.device() == master.device(),
         concat("adamw ", what, ": expected contiguous [", master.numel(), "] ", dtype, " on ",
                master.device(), ", got ", x.sizes(), " ", x.scalar_type(), " on ", x.device()));
}

void expect_scalar(const char* what, const at::Tensor& x, const at::Tensor& master, at::ScalarType dtype) {
  expect(x.numel() == 1 && x.scalar_type() == dtype && x.device() == master.device(),
         concat("adamw ", what, ": expected one ", dtype, " on ", master.device(), ", got ", x.sizes(), " ",
                x.scalar_type(), " on ", x.device()));
}

void check(const AdamWOptions& options, const AdamWControl& control, const at::Tensor& master,
           const at::Tensor& m, const at::Tensor& v, const at::Tensor& grad, const at::Tensor& compute) {
  const auto dtype = master.scalar_type();
  expect(dtype == at::kFloat || (dtype == at::kDouble && master.is_cpu()),
         concat("adamw: f32 buffers expected (f64 too on a CPU), got ", dtype, " on ", master.device()));
  expect(options.eps > 0, concat("adamw: eps must be positive, got ", options.eps));
  expect_like("master", master, master, dtype);
  expect_like("m", m, master, dtype);
  expect_like("v", v, master, dtype);
  expect_like("grad", grad, master, dtype);
  if (compute.defined()) expect_like("compute", compute, master, at::kBFloat16);
  expect_scalar("lr", control.lr, master, at::kFloat);
  expect_scalar("step", control.step, master, at::kLong);
  expect_scalar("grad_scale", control.grad_scale, master, at::kFloat);
  expect_scalar("apply", control.apply, master, at::kBool);
}

template <class T>
struct Buffers {
  T* w;
  T* m;
  T* v;
  const T* grad;
  c10::BFloat16* compute;
};

// What all elements of a step share. Corrections are formed in f64, since 1 − βᵗ cancels for small t.
template <class T>
struct Scalars {
  Scalars(const AdamWOptions& o, const AdamWControl& c)
      : beta1(static_cast<T>(o.beta1)),
        beta2(static_cast<T>(o.beta2)),
        rest1(static_cast<T>(1 - o.beta1)),
        rest2(static_cast<T>(1 - o.beta2)),
        lr(static_cast<T>(c.lr.item<double>())),
        grad_scale(static_cast<T>(c.grad_scale.item<double>())),
        eps(static_cast<T>(o.eps)),
        weight_decay(static_cast<T>(o.weight_decay)) {
    const auto t = static_cast<double>(c.step.item<int64_t>());
    inv_correction1 = static_cast<T>(1 / (1 - std::pow(o.beta1, t)));
    inv_correction2 = static_cast<T>(1 / (1 - std::pow(o.beta2, t)));
  }
  T beta1, beta2, rest1, rest2, lr, grad_scale, eps, weight_decay, inv_correction1, inv_correction2;
};

template <class T>
void update_range(const Scalars<T>& s, const Buffers<T>& b, int64_t begin, int64_t end) {
  T* __restrict w = b.w;
  T* __restrict m = b.m;
  T* __restrict v = b.v;
  const T* __restrict grad = b.grad;
  for (int64_t i = begin; i < end; ++i) {
    const T g = s.grad_scale * grad[i];
    m[i] = s.beta1 * m[i] + s.rest1 * g;
    v[i] = s.beta2 * v[i] + s.rest2 * g * g;
    const T update = m[i] * s.inv_correction1 / (std::sqrt(v[i] * s.inv_correction2) + s.eps);
    w[i] -= s.lr * (update + s.weight_decay * w[i]);
  }
  if (b.compute != nullptr)
    for (int64_t i = begin; i < end; ++i) b.compute[i] = c10::BFloat16(static_cast<float>(w[i]));
}

template <class T>
void adamw_cpu(const AdamWOptions& options, const AdamWControl& control, const at::Tensor& master,
               const at::Tensor& m, const at::Tensor& v, const at::Tensor& grad, const at::Tensor& compute) {
  if (!control.apply.item<bool>()) return;
  const Scalars<T> scalars(options, control);
  const Buffers<T> buffers{master.mutable_data_ptr<T>(), m.mutable_data_ptr<T>(), v.mutable_data_ptr<T>(),
                           grad.const_data_ptr<T>(),
                           compute.defined() ? compute.mutable_data_ptr<c10::BFloat16>() : nullptr};
  constexpr int64_t kGrain = 1 << 14;
  at::parallel_for(0, master.numel(), kGrain,
                   [&](int64_t begin, int64_t end) { update_range(scalars, buffers, begin, end); });
}

void adamw_cuda(const AdamWOptions& options, const AdamWControl& control, const at::Tensor& master,
                const at::Tensor& m, const at::Tensor& v, const at::Tensor& grad, const at::Tensor& compute) {
  const c10::DeviceGuard on_device(master.device());
  const kernels::AdamWParams params{
      .master = master.mutable_data_ptr<float>(),
      .m = m.mutable_data_ptr<float>(),
      .v = v.mutable_data_ptr<float>(),
      .grad = grad.const_data_ptr<float>(),
      .compute_bf16 = compute.defined() ? compute.mutable_data_ptr() : nullptr,
      .n = master.numel(),
      .lr = control.lr.const_data_ptr<float>(),
      .step = control.step.const_data_ptr<int64_t>(),
      .grad_scale = control.grad_scale.const_data_ptr<float>(),
      .apply = control.apply.const_data_ptr<bool>(),
      .beta1 = options.beta1,
      .beta2 = options.beta2,
      .eps = static_cast<float>(options.eps),
      .weight_decay = static_cast<float>(options.weight_decay),
  };
  kernels::adamw(params, current_stream(master));
}

}  // namespace

void adamw(const AdamWOptions& options, const AdamWControl& control, const at::Tensor& master,
           const at::Tensor& m, const at::Tensor& v, const at::Tensor& grad, const at::Tensor& compute) {
  check(options, control, master, m, v, grad, compute);
  if (master.is_cuda()) return adamw_cuda(options, control, master, m, v, grad, compute);
  if (master.scalar_type() == at::kDouble)
    return adamw_cpu<double>(options, control, master, m, v, grad, compute);
  adamw_cpu<float>(options, control, master, m, v, grad, compute);
}

}  // namespace transxssm::ops
