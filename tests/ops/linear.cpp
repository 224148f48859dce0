// Linear on the CPU.
#include "ops/linear.h"

#include <ATen/core/grad_mode.h>

#include "linear_cases.h"
#include "support/require_error.h"

using namespace transxssm;

TEST_CASE("linear: the formula and its gradients in fp64", "[ops]") {
  for (const OpCase& c : {linear_case({1}, 1, 1), linear_case({2, 5}, 7, 3), linear_case({3, 1, 2}, 4, 13)}) {
    require_literal(c);
    require_gradients(c);
  }
}

TEST_CASE("linear: f32 and bf16 lose no more than a plain product", "[ops]") {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    require_precision(linear_case({2, 33}, 129, 65), dtype);
    require_precision(linear_case({1}, 31, 17), dtype);
  }
}

TEST_CASE("linear: a strided input and a strided gradient give what contiguous ones give", "[ops]") {
  const ParameterPtr w = f64_parameter("weight", {3, 4}, 1);
  const at::Tensor wide = f64_tensor({2, 5, 9}, 2);
  const at::Tensor view = wide.narrow(2, 2, 4);
  gradcheck([&](const Tensors& x) { return Tensors{ops::linear(x[0].narrow(2, 2, 4), w).transpose(0, 1)}; },
            {wide}, {w});
  REQUIRE(same_bits(ops::linear(view, w), ops::linear(view.contiguous(), w)));
}

TEST_CASE("linear: the weight gets its gradient although the input needs none", "[ops]") {
  const ParameterPtr w = f64_parameter("weight", {3, 4}, 1);
  const at::Tensor x = f64_tensor({5, 4}, 2);
  ops::linear(x, w).sum().backward();
  REQUIRE(max_abs_diff(w->grad, x.sum(0).expand({3, 4})) <= 1e-14);
  REQUIRE(!w->weight.grad().defined());
}

TEST_CASE("linear: a frozen weight passes the input's gradient on and gets none itself", "[ops]") {
  const ParameterPtr w = f64_parameter("weight", {3, 4}, 1);
  gradcheck([&](const Tensors& x) { return Tensors{ops::linear(x[0], frozen(w))}; }, {f64_tensor({5, 4}, 2)},
            {});
}

TEST_CASE("linear: inference and no-grad mode record nothing", "[ops]") {
  const ParameterPtr w = f64_parameter("weight", {3, 4}, 1);
  const at::Tensor x = f64_tensor({5, 4}, 2);
  REQUIRE(!ops::linear(x, frozen(w)).requires_grad());
  const at::NoGradGuard no_grad;
  REQUIRE(!ops::linear(x, w).requires_grad());
}

TEST_CASE("linear: its result may be changed in place, as attention rotates it", "[ops]") {
  const ParameterPtr w = f64_parameter("weight", {3, 4}, 1);
  gradcheck([&](const Tensors& x) { return Tensors{ops::linear(x[0], w).mul_(2)}; },
            {f64_tensor({2, 5, 4}, 2)}, {w});
}

TEST_CASE("linear: a width that does not fit is named with both sizes", "[ops]") {
  const ParameterPtr w = f64_parameter("weight", {3, 4}, 1);
  const at::Tensor x = f64_tensor({5, 6}, 2);
  require_error([&] { ops::linear(x, w); }, "linear weight: expected [any, 6], got [3, 4]");
}
