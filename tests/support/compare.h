// Differences between tensors, measured in fp64 on the CPU.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

namespace transxssm {

inline at::Tensor as_f64(const at::Tensor& x) { return x.detach().to(at::kCPU).to(at::kDouble); }

inline double max_abs(const at::Tensor& x) { return x.numel() ? as_f64(x).abs().max().item<double>() : 0; }

// Shapes must agree; NaN anywhere gives NaN, which fails every comparison.
inline double max_abs_diff(const at::Tensor& a, const at::Tensor& b) {
  TORCH_CHECK(a.sizes() == b.sizes(), "shapes differ: ", a.sizes(), " and ", b.sizes());
  return max_abs(as_f64(a) - as_f64(b));
}

// Equal shape, dtype and values, element by element (−0 equals 0; NaN equals nothing).
inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() &&
         a.detach().to(at::kCPU).equal(b.detach().to(at::kCPU));
}

// ‖actual − exact‖ / ‖exact‖.
inline double rms_error(const at::Tensor& actual, const at::Tensor& exact) {
  const at::Tensor reference = as_f64(exact);
  const double scale = reference.norm().item<double>();
  return (as_f64(actual) - reference).norm().item<double>() / (scale > 0 ? scale : 1);
}

}  // namespace transxssm
