// Deterministic fp64 inputs and the check of a hand-written backward against central differences.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numbers>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>

#include "core/parameter.h"
#include "core/rng.h"
#include "support/catch.h"

namespace transxssm {

// Contiguous f64 tensor of N(0, scale²); the same for equal arguments on every machine.
inline at::Tensor f64_tensor(at::IntArrayRef shape, uint64_t seed, double scale = 1.0) {
  const at::Tensor out = at::empty(shape, at::TensorOptions(at::kDouble));
  const Philox rng(seed);
  double* values = out.mutable_data_ptr<double>();
  for (int64_t i = 0; i < out.numel(); ++i) {
    const auto k = static_cast<uint64_t>(i);
    const double radius = std::sqrt(-2 * std::log(rng.uniform(2 * k)));
    values[i] = scale * radius * std::cos(2 * std::numbers::pi * rng.uniform(2 * k + 1));
  }
  return out;
}

// Parameter with such a weight (a leaf that requires a gradient) and a zero f64 gradient.
inline ParameterPtr f64_parameter(const std::string& name, at::IntArrayRef shape, uint64_t seed,
                                  double scale = 1.0) {
  at::Tensor weight = f64_tensor(shape, seed, scale);
  weight.set_requires_grad(true);
  return c10::make_intrusive<Parameter>(name, weight, at::zeros_like(weight.detach()));
}

namespace gradcheck_detail {

using Function = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;

// Σ over outputs of ⟨output, fixed random tensor⟩. Undefined outputs are skipped.
inline at::Tensor projection(const Function& f, const std::vector<at::Tensor>& inputs) {
  at::Tensor sum;
  uint64_t seed = 0x9e3779b9;
  for (const at::Tensor& output : f(inputs)) {
    if (!output.defined()) continue;
    const at::Tensor term = (output * f64_tensor(output.sizes(), ++seed)).sum();
    sum = sum.defined() ? sum + term : term;
  }
  return sum;
}

// Largest difference between `analytic` and the central differences of f along each element of `x`.
inline void compare(const std::string& what, const std::function<double()>& f, const at::Tensor& x,
                    const at::Tensor& analytic, double eps, double rtol, double atol) {
  const at::Tensor gradient = analytic.contiguous();
  auto* values = static_cast<double*>(x.data_ptr());
  const double* backward = gradient.const_data_ptr<double>();
  double largest = 0, worst = 0, worst_numeric = 0;
  int64_t worst_index = 0;
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double value = values[i];
    values[i] = value + eps;
    const double above = f();
    values[i] = value - eps;
    const double below = f();
    values[i] = value;
    const double numeric = (above - below) / (2 * eps);
    const double error = std::abs(numeric - backward[i]);
    largest = std::max(largest, std::abs(numeric));
    if (error > worst || std::isnan(error)) {
      worst = std::isnan(error) ? HUGE_VAL : error;
      worst_index = i;
      worst_numeric = numeric;
    }
  }
  INFO("gradient of " << what << ", element " << worst_index << ": backward "
                      << (x.numel() ? backward[worst_index] : 0) << ", central difference " << worst_numeric);
  REQUIRE(worst <= atol + rtol * largest);
}

}  // namespace gradcheck_detail

// Backward of a fixed random projection of all outputs of `f` against central differences with step `eps`,
// for every element of every floating-point input and of every parameter's weight. An error may reach `atol`
// plus `rtol` times the tensor's largest gradient. Parameter gradients start from a non-zero value: operators
// must add to them.
inline void gradcheck(const gradcheck_detail::Function& f, const std::vector<at::Tensor>& inputs,
                      const std::vector<ParameterPtr>& parameters, double eps = 1e-6, double rtol = 1e-6,
                      double atol = 1e-8) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& input : inputs) {
    at::Tensor leaf = input.detach().contiguous().clone();
    leaves.push_back(input.is_floating_point() ? leaf.set_requires_grad(true) : leaf);
  }
  constexpr double kBefore = 0.5;
  for (const ParameterPtr& parameter : parameters) parameter->grad.fill_(kBefore);
  gradcheck_detail::projection(f, leaves).backward();

  const at::NoGradGuard no_grad;
  const auto value = [&] { return gradcheck_detail::projection(f, leaves).item<double>(); };
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (!leaves[i].is_floating_point()) continue;
    const std::string what = concat("input ", i);
    INFO(what << " got no gradient");
    REQUIRE(leaves[i].grad().defined());
    gradcheck_detail::compare(what, value, leaves[i], leaves[i].grad(), eps, rtol, atol);
  }
  for (const ParameterPtr& p : parameters) {
    gradcheck_detail::compare(p->name, value, p->weight, p->grad - kBefore, eps, rtol, atol);
    p->grad.zero_();
  }
}

}  // namespace transxssm
