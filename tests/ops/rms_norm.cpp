// The RMSNorm operators on the CPU.
#include "ops/rms_norm.h"

#include <ATen/core/grad_mode.h>

#include "norm_cases.h"
#include "support/require_error.h"

using namespace transxssm;

namespace {

std::vector<OpCase> cases(int64_t rows, int64_t width) {
  return {rms_norm_case(rows, width), residual_case(rows, width, true), residual_case(rows, width, false),
          gated_case(rows, width)};
}

}  // namespace

TEST_CASE("rms_norm, residual_rms_norm, gated_rms_norm: the formula and its gradients in fp64", "[ops]") {
  const auto [rows, width] = GENERATE(table<int64_t, int64_t>({{1, 1}, {3, 7}, {1, 13}, {5, 4}}));
  for (const OpCase& c : cases(rows, width)) {
    require_literal(c);
    require_gradients(c);
  }
}

TEST_CASE("rms_norm, residual_rms_norm, gated_rms_norm: f32 and bf16 lose no more than the plain formula",
          "[ops]") {
  const auto [rows, width] = GENERATE(table<int64_t, int64_t>({{63, 65}, {17, 256}, {2, 1009}}));
  for (const OpCase& c : cases(rows, width)) {
    require_precision(c, at::kFloat);
    require_precision(c, at::kBFloat16);
  }
}

TEST_CASE("residual_rms_norm: normalises the stored sum", "[ops]") {
  const OpCase c = residual_case(9, 37, true);
  const at::Tensor x = c.inputs[0].to(at::kBFloat16), branch = c.inputs[1].to(at::kBFloat16);
  const ParameterPtr w = parameter_in(c.parameters[0], at::kBFloat16, at::kCPU);
  const ParameterPtr r = parameter_in(c.parameters[1], at::kBFloat16, at::kCPU);
  const auto [sum, u] = ops::residual_rms_norm({{x, r}, branch}, w, kNormEps, {});
  REQUIRE(same_bits(u, ops::rms_norm(sum.x, w, kNormEps)));
  REQUIRE(same_bits(sum.x, (x.to(at::kFloat) * r->weight + branch.to(at::kFloat)).to(at::kBFloat16)));
}

TEST_CASE("residual_rms_norm: a gradient on one result alone is enough", "[ops]") {
  const OpCase c = residual_case(3, 5, true);
  const size_t used = GENERATE(0, 1);
  const auto one = [&](const Tensors& inputs) { return Tensors{c.op(inputs, c.parameters)[used]}; };
  gradcheck(one, c.inputs, c.parameters);
}

TEST_CASE("residual_rms_norm: a scale for a stream that gets no branch is refused", "[ops]") {
  const OpCase c = residual_case(3, 5, true);
  require_error(
      [&] {
        ops::residual_rms_norm({{c.inputs[0], c.parameters[1]}, {}}, c.parameters[0], kNormEps, {});
      },
      "residual_rms_norm: a scaled stream without a branch");
}

TEST_CASE("rms_norm: rows of zeros and rows of large values stay finite", "[ops]") {
  const ParameterPtr w = parameter_in(f64_parameter("weight", {64}, 1), at::kFloat, at::kCPU);
  for (const double scale : {0.0, 1e15}) {
    at::Tensor x = f64_tensor({2, 64}, 2, scale).to(at::kBFloat16).set_requires_grad(true);
    const at::Tensor y = ops::rms_norm(x, w, kNormEps);
    y.sum().backward();
    REQUIRE(y.isfinite().all().item<bool>());
    REQUIRE(x.grad().isfinite().all().item<bool>());
  }
}

TEST_CASE("rms_norm: inference and no-grad mode record nothing", "[ops]") {
  const OpCase c = residual_case(2, 4, true);
  const ParameterPtr w = frozen(c.parameters[0]), r = frozen(c.parameters[1]);
  REQUIRE(!ops::rms_norm(c.inputs[0], w, kNormEps).requires_grad());
  REQUIRE(!ops::gated_rms_norm(c.inputs[0], c.inputs[1], w, kNormEps).requires_grad());
  REQUIRE(!ops::residual_rms_norm({{c.inputs[0], r}, c.inputs[1]}, w, kNormEps, r).second.requires_grad());
  const at::NoGradGuard no_grad;
  REQUIRE(!ops::rms_norm(c.inputs[0], c.parameters[0], kNormEps).requires_grad());
}

TEST_CASE("rms_norm: a weight of another width is named with both sizes", "[ops]") {
  const ParameterPtr w = f64_parameter("weight", {5}, 1);
  const at::Tensor x = f64_tensor({3, 7}, 2);
  require_error([&] { ops::rms_norm(x, w, kNormEps); }, "rms_norm weight: expected [7], got [5]");
}
