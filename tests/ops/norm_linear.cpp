// residual_norm_linear on the CPU.
#include "norm_linear_cases.h"
#include "support/require_error.h"

using namespace transxssm;
using ops::NormedInput;

TEST_CASE("residual_norm_linear: the formula and its gradients in fp64", "[ops]") {
  const auto kind = GENERATE(Sum::scaled, Sum::plain, Sum::none);
  const auto normed = GENERATE(NormedInput::kept, NormedInput::rebuilt);
  for (const OpCase& c : {norm_linear_case(1, 1, 1, kind, normed), norm_linear_case(3, 7, 5, kind, normed)}) {
    require_literal(c);
    require_gradients(c);
  }
}

TEST_CASE("residual_norm_linear: f32 and bf16 lose no more than the plain formula", "[ops]") {
  for (const auto dtype : {at::kFloat, at::kBFloat16})
    require_precision(norm_linear_case(17, 129, 65, Sum::scaled, NormedInput::rebuilt), dtype);
}

TEST_CASE("residual_norm_linear: kept or rebuilt, the bits of the two operators", "[ops]") {
  const auto kind = GENERATE(Sum::scaled, Sum::plain, Sum::none);
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const Tensors kept = run_op(norm_linear_case(9, 37, 16, kind, NormedInput::kept), dtype);
    const OpCase rebuilt = norm_linear_case(9, 37, 16, kind, NormedInput::rebuilt);
    const Tensors again = run_op(rebuilt, dtype), apart = run_op(norm_then_linear(rebuilt, kind), dtype);
    for (size_t i = 0; i < kept.size(); ++i) {
      REQUIRE(same_bits(kept[i], again[i]));
      REQUIRE(same_bits(kept[i], apart[i]));
    }
  }
}

TEST_CASE("residual_norm_linear: a gradient on one result alone is enough", "[ops]") {
  const OpCase c = norm_linear_case(3, 5, 4, GENERATE(Sum::scaled, Sum::none), NormedInput::rebuilt);
  const size_t used = GENERATE(0, 1);
  gradcheck([&](const Tensors& inputs) { return Tensors{c.op(inputs, c.parameters)[used]}; }, c.inputs,
            c.parameters);
}

TEST_CASE("residual_norm_linear: the product may be changed in place, as attention rotates it", "[ops]") {
  const OpCase c = norm_linear_case(3, 5, 4, GENERATE(Sum::scaled, Sum::none), NormedInput::kept);
  const auto changed = [&](const Tensors& inputs) {
    const Tensors out = c.op(inputs, c.parameters);
    return Tensors{out[0], out[1].mul_(2)};
  };
  gradcheck(changed, c.inputs, c.parameters);
}

TEST_CASE("residual_norm_linear: a frozen projection passes the input's gradient on", "[ops]") {
  const OpCase c = norm_linear_case(3, 5, 4, Sum::plain, NormedInput::rebuilt);
  const std::vector<ParameterPtr> p{c.parameters[0], frozen(c.parameters[1])};
  gradcheck([&](const Tensors& x) { return c.op(x, p); }, c.inputs, {p[0]});
}

TEST_CASE("residual_norm_linear: what does not fit is named", "[ops]") {
  const ParameterPtr w = f64_parameter("norm", {6}, 1), projection = f64_parameter("projection", {3, 4}, 2);
  const at::Tensor x = f64_tensor({5, 6}, 3);
  const auto refused = [&](const ops::Residual& in, const std::string& says) {
    require_error([&] { ops::residual_norm_linear(in, w, kNormEps, {}, projection, NormedInput::kept); },
                  says);
  };
  refused({{x, {}}, {}}, "residual_norm_linear projection: expected [any, 6], got [3, 4]");
  refused({{x.narrow(1, 0, 4), {}}, {}}, "residual_rms_norm weight: expected [4], got [6]");
}
