// residual_norm_linear on the GPU in bf16: the kernels of the norms around cuBLASLt's products.
#include <torch/csrc/autograd/autograd.h>

#include "norm_linear_cases.h"
#include "support/cuda_graph.h"

using namespace transxssm;
using ops::NormedInput;

TEST_CASE("residual_norm_linear on CUDA: values and gradients are close to fp64, the same in every run",
          "[ops][cuda]") {
  const auto kind = GENERATE(Sum::scaled, Sum::plain, Sum::none);
  // The product's operand is rounded to bf16, which alone costs 1.7e-3.
  for (const auto normed : {NormedInput::kept, NormedInput::rebuilt})
    require_kernel(norm_linear_case(67, 256, 136, kind, normed), 6e-3);
}

TEST_CASE("residual_norm_linear on CUDA: kept, rebuilt, or by two operators: equal bits", "[ops][cuda]") {
  // 2056: a norm without a row layout of that width alone; 12: one without a kernel.
  const auto [rows, width] = GENERATE(table<int64_t, int64_t>({{401, 1024}, {203, 2056}, {64, 12}}));
  const auto kind = GENERATE(Sum::scaled, Sum::plain, Sum::none);
  const OpCase rebuilt = norm_linear_case(rows, width, 64, kind, NormedInput::rebuilt);
  const auto run = [](const OpCase& c) { return run_op(c, at::kBFloat16, at::kCUDA); };
  const Tensors again = run(rebuilt);
  const Tensors kept = run(norm_linear_case(rows, width, 64, kind, NormedInput::kept));
  for (size_t i = 0; i < kept.size(); ++i) REQUIRE(same_bits(kept[i], again[i]));
  const Tensors apart = run(norm_then_linear(rebuilt, kind));
  for (size_t i = 0; i < apart.size(); ++i) REQUIRE(same_bits(apart[i], again[i]));
}

TEST_CASE("residual_norm_linear on CUDA: a captured graph gives the bits of eager runs", "[ops][cuda]") {
  const OpCase c = norm_linear_case(130, 1024, 264, Sum::scaled, NormedInput::rebuilt);
  std::vector<ParameterPtr> p;
  for (const ParameterPtr& one : c.parameters) p.push_back(parameter_in(one, at::kBFloat16, at::kCUDA));
  Tensors x;
  for (const at::Tensor& one : c.inputs)
    x.push_back(one.to(at::kBFloat16).to(at::kCUDA).set_requires_grad(true));
  at::Tensor dx;
  const auto work = [&] {
    const Tensors out = c.op(x, p);
    dx = torch::autograd::grad({out[1]}, {x[0]}, {out[1].detach()})[0];
  };
  work();
  Tensors eager{dx.clone()};
  for (const ParameterPtr& one : p) eager.push_back(one->grad.clone());
  CapturedGraph graph(work);
  for (const ParameterPtr& one : p) one->grad.zero_();
  graph.replay();
  REQUIRE(same_bits(dx, eager[0]));
  for (size_t i = 0; i < p.size(); ++i) REQUIRE(same_bits(p[i]->grad, eager[i + 1]));
}
