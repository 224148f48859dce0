// Buffers of an AdamW step, for the tests on a CPU and on CUDA.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>

#include "ops/adamw.h"
#include "support/gradcheck.h"

namespace transxssm {

// A state in mid-training: weights of size 0.02, moments consistent with gradients of size 1e-3.
struct AdamWBuffers {
  AdamWBuffers(int64_t n, at::ScalarType dtype, bool with_copy = false)
      : master(f64_tensor({n}, 1, 0.02).to(dtype)),
        m(f64_tensor({n}, 2, 1e-4).to(dtype)),
        v(f64_tensor({n}, 3, 1e-3).square().to(dtype)),
        grad(f64_tensor({n}, 4, 1e-3).to(dtype)) {
    if (with_copy) compute = master.to(at::kBFloat16);
  }
  void to_cuda() {
    for (at::Tensor* t : {&master, &m, &v, &grad, &compute})
      if (t->defined()) *t = t->to(at::kCUDA);
  }
  AdamWBuffers clone() const {
    AdamWBuffers copy = *this;
    for (at::Tensor* t : {&copy.master, &copy.m, &copy.v, &copy.grad, &copy.compute})
      if (t->defined()) *t = t->clone();
    return copy;
  }
  at::Tensor master, m, v, grad, compute;
};

inline ops::AdamWControl adamw_control(double lr, int64_t step, double grad_scale, bool apply = true,
                                       at::Device device = at::kCPU) {
  const auto scalar = [&](at::Scalar value, at::ScalarType dtype) {
    return at::full({}, value, at::TensorOptions(dtype).device(device));
  };
  return {scalar(lr, at::kFloat), scalar(step, at::kLong), scalar(grad_scale, at::kFloat),
          scalar(apply, at::kBool)};
}

inline void run_adamw(const ops::AdamWOptions& options, const ops::AdamWControl& control,
                      const AdamWBuffers& b) {
  ops::adamw(options, control, b.master, b.m, b.v, b.grad, b.compute);
}

// The formula of ops/adamw.h, in f64 and written out once more.
inline AdamWBuffers adamw_in_f64(const ops::AdamWOptions& o, const ops::AdamWControl& control,
                                 const AdamWBuffers& before) {
  AdamWBuffers b = before;
  for (at::Tensor* t : {&b.master, &b.m, &b.v, &b.grad}) *t = t->to(at::kCPU).to(at::kDouble);
  const double t = control.step.item<double>();
  const auto g = b.grad * control.grad_scale.item<double>();
  b.m = o.beta1 * b.m + (1 - o.beta1) * g;
  b.v = o.beta2 * b.v + (1 - o.beta2) * g.square();
  const auto m_hat = b.m / (1 - std::pow(o.beta1, t));
  const auto v_hat = b.v / (1 - std::pow(o.beta2, t));
  b.master =
      b.master - control.lr.item<double>() * (m_hat / (v_hat.sqrt() + o.eps) + o.weight_decay * b.master);
  return b;
}

}  // namespace transxssm
