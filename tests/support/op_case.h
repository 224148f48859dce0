// One operator, its literal formula and fp64 arguments: checked in fp64, then run in any type on any device.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros_like.h>

#include "support/gradcheck.h"
#include "support/tolerance.h"

namespace transxssm {

using Tensors = std::vector<at::Tensor>;

struct OpCase {
  std::string name;
  std::function<Tensors(const Tensors& inputs, const std::vector<ParameterPtr>& parameters)> op;
  std::function<Tensors(const Tensors& inputs, const Tensors& weights)> literal;  // plain autograd
  Tensors inputs;                        // f64; integer tensors keep their type
  std::vector<ParameterPtr> parameters;  // f64
};

// The same parameter as training holds it: matrices in `compute`, vectors in f32 (f64 for f64), zero
// gradient.
inline ParameterPtr parameter_in(const ParameterPtr& p, at::ScalarType compute, at::Device device) {
  const auto precise = compute == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor weight = p->weight.detach().clone().to(device, p->weight.dim() > 1 ? compute : precise);
  const at::Tensor grad = at::zeros_like(weight, weight.options().dtype(precise));
  return c10::make_intrusive<Parameter>(p->name, weight.set_requires_grad(true), grad);
}

// The same parameter as inference holds it: nothing to be trained.
inline ParameterPtr frozen(const ParameterPtr& p) {
  return c10::make_intrusive<Parameter>(p->name, p->weight.detach(), at::Tensor());
}

namespace op_case_detail {

inline Tensors leaves_in(const Tensors& inputs, at::ScalarType dtype, at::Device device) {
  Tensors leaves;
  for (const at::Tensor& input : inputs) {
    const bool real = input.is_floating_point();
    const at::Tensor leaf = input.detach().clone().to(device, real ? dtype : input.scalar_type());
    leaves.push_back(real ? leaf.set_requires_grad(true) : leaf);
  }
  return leaves;
}

// Backward of a fixed random projection (of bf16 values, the same numbers in every type); outputs and the
// leaves' gradients in one list.
inline Tensors outputs_and_gradients(const Tensors& outputs, const Tensors& leaves) {
  at::Tensor sum;
  uint64_t seed = 77;
  for (const at::Tensor& output : outputs) {
    const at::Tensor weights =
        f64_tensor(output.sizes(), ++seed).to(at::kBFloat16).to(output.device(), output.scalar_type());
    const at::Tensor term = (output * weights).sum();
    sum = sum.defined() ? sum + term : term;
  }
  sum.backward();
  Tensors all = outputs;
  for (const at::Tensor& leaf : leaves)
    if (leaf.is_floating_point()) all.push_back(leaf.grad());
  return all;
}

}  // namespace op_case_detail

// Outputs, then gradients of floating-point inputs, then of parameters.
inline Tensors run_op(const OpCase& c, at::ScalarType dtype, at::Device device = at::kCPU) {
  const Tensors leaves = op_case_detail::leaves_in(c.inputs, dtype, device);
  std::vector<ParameterPtr> parameters;
  for (const ParameterPtr& p : c.parameters) parameters.push_back(parameter_in(p, dtype, device));
  Tensors all = op_case_detail::outputs_and_gradients(c.op(leaves, parameters), leaves);
  for (const ParameterPtr& p : parameters) all.push_back(p->grad);
  return all;
}

// The same list from the literal formula with every operand in `dtype`.
inline Tensors run_literal(const OpCase& c, at::ScalarType dtype, at::Device device = at::kCPU) {
  Tensors weights;
  for (const ParameterPtr& p : c.parameters) weights.push_back(p->weight);
  const Tensors leaves = op_case_detail::leaves_in(c.inputs, dtype, device);
  weights = op_case_detail::leaves_in(weights, dtype, device);
  Tensors all = op_case_detail::outputs_and_gradients(c.literal(leaves, weights), leaves);
  for (const at::Tensor& weight : weights) all.push_back(weight.grad());
  return all;
}

// In fp64: the operator is its formula, and so are its gradients.
inline void require_literal(const OpCase& c) {
  const Tensors actual = run_op(c, at::kDouble), expected = run_literal(c, at::kDouble);
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    INFO(c.name << ", tensor " << i);
    REQUIRE(max_abs_diff(actual[i], expected[i]) <= 1e-12 * (1 + max_abs(expected[i])));
  }
}

// Against central differences, independent of any backward.
inline void require_gradients(const OpCase& c) {
  gradcheck([&](const Tensors& inputs) { return c.op(inputs, c.parameters); }, c.inputs, c.parameters);
}

// In `dtype` on `device`: at most `factor` times the error of the literal formula in that type.
inline void require_precision(const OpCase& c, at::ScalarType dtype, at::Device device = at::kCPU,
                              double factor = 2.0) {
  const Tensors exact = run_literal(c, at::kDouble);
  const Tensors in_dtype = run_literal(c, dtype, device);
  const Tensors actual = run_op(c, dtype, device);
  for (size_t i = 0; i < exact.size(); ++i)
    require_close(concat(c.name, ", tensor ", i), actual[i], in_dtype[i], exact[i], factor);
}

// bf16 on CUDA against fp64 on the same rounded numbers: every tensor within `limit` of its size (RMS), and
// the same bits in a second run. A result that was rounded to bf16 twice on its way is 2.3e-3 off.
inline void require_kernel(const OpCase& c, double limit = 4e-3) {
  OpCase rounded = c;
  for (at::Tensor& x : rounded.inputs)
    if (x.is_floating_point()) x = x.to(at::kBFloat16).to(at::kDouble);
  for (ParameterPtr& p : rounded.parameters)
    p = parameter_in(parameter_in(p, at::kBFloat16, at::kCPU), at::kDouble, at::kCPU);
  const Tensors exact = run_literal(rounded, at::kDouble);
  const Tensors actual = run_op(c, at::kBFloat16, at::kCUDA), again = run_op(c, at::kBFloat16, at::kCUDA);
  for (size_t i = 0; i < exact.size(); ++i) {
    INFO(c.name << ", tensor " << i << ": RMS error " << rms_error(actual[i], exact[i]));
    REQUIRE(rms_error(actual[i], exact[i]) <= limit);
    REQUIRE(same_bits(actual[i], again[i]));
  }
}

}  // namespace transxssm
