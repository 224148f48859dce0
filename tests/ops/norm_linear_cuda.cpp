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
  const auto parameter = [](at::IntArrayRef shape, uint64_t seed) {
    return parameter_in(f64_parameter("p", shape, seed), at::kBFloat16, at::kCUDA);
  };
  const ParameterPtr r = parameter({1024}, 1), w = parameter({1024}, 2),
                     projection = parameter({264, 1024}, 3);
  const auto tensor = [](uint64_t seed) {
    return f64_tensor({130, 1024}, seed).to(at::kBFloat16).to(at::kCUDA).set_requires_grad(true);
  };
  const at::Tensor x = tensor(4), branch = tensor(5);
  at::Tensor dx;
  const auto work = [&] {
    const auto [sum, y] =
        ops::residual_norm_linear({{x, r}, branch}, w, kNormEps, r, projection, NormedInput::rebuilt);
    dx = torch::autograd::grad({sum.x, y}, {x}, {sum.x.detach(), y.detach()})[0];
  };
  work();
  Tensors eager{dx.clone()};
  for (const ParameterPtr& p : {r, w, projection}) {
    eager.push_back(p->grad.clone());
    p->grad.zero_();
  }
  CapturedGraph graph(work);
  graph.replay();
  REQUIRE(same_bits(dx, eager[0]));
  REQUIRE(same_bits(r->grad, eager[1]));
  REQUIRE(same_bits(w->grad, eager[2]));
  REQUIRE(same_bits(projection->grad, eager[3]));
}
