// SwiGLU on the CPU.
#include "ops/swiglu.h"

#include <ATen/core/grad_mode.h>

#include "norm_cases.h"
#include "ops/linear.h"
#include "ops/reference/swiglu.h"

using namespace transxssm;

TEST_CASE("swiglu: the formula and its gradient in fp64", "[ops]") {
  for (const OpCase& c : {swiglu_case(1, 1), swiglu_case(3, 7), swiglu_case(5, 16)}) {
    require_literal(c);
    require_gradients(c);
  }
}

TEST_CASE("swiglu_linear: the formula and its gradients in fp64", "[ops]") {
  for (const OpCase& c : {swiglu_linear_case(1, 1, 3), swiglu_linear_case(3, 7, 5)}) {
    require_literal(c);
    require_gradients(c);
  }
}

TEST_CASE("swiglu_linear: has the bits of the two operators, with a gradient of packed alone too", "[ops]") {
  const OpCase c = swiglu_linear_case(9, 16, 5);
  const auto apart = [&](const Tensors& x, const std::vector<ParameterPtr>& w) {
    return Tensors{ops::linear(ops::swiglu(x[0]), w[0])};
  };
  OpCase two = c;
  two.op = apart;
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const Tensors fused = run_op(c, dtype), separate = run_op(two, dtype);
    for (size_t i = 0; i < fused.size(); ++i) REQUIRE(same_bits(fused[i], separate[i]));
  }
  const ParameterPtr w = frozen(c.parameters[0]);
  const at::Tensor packed = c.inputs[0].detach().clone().set_requires_grad(true);
  ops::swiglu_linear(packed, w).sum().backward();  // without a gradient of w
  REQUIRE(packed.grad().defined());
}

TEST_CASE("swiglu: f32 and bf16 lose no more than the plain formula", "[ops]") {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    require_precision(swiglu_case(31, 129), dtype);
    require_precision(swiglu_case(1, 1009), dtype);
  }
}

TEST_CASE("swiglu: bf16 results are rounded once", "[ops]") {
  const at::Tensor packed = swiglu_case(7, 33).inputs[0].to(at::kBFloat16);
  const auto halves = packed.to(at::kFloat).chunk(2, -1);
  REQUIRE(max_abs_diff(ops::swiglu(packed), (literal_silu(halves[0]) * halves[1]).to(at::kBFloat16)) <=
          0x1p-7 * max_abs(packed));
  REQUIRE(ops::swiglu(packed).scalar_type() == at::kBFloat16);
}

TEST_CASE("swiglu: a strided input gives what a contiguous one gives", "[ops]") {
  const at::Tensor wide = f64_tensor({2, 3, 11}, 1);
  gradcheck([](const Tensors& x) { return Tensors{ops::swiglu(x[0].narrow(2, 1, 10))}; }, {wide}, {});
  REQUIRE(same_bits(ops::swiglu(wide.narrow(2, 1, 10)), ops::swiglu(wide.narrow(2, 1, 10).contiguous())));
}

TEST_CASE("swiglu: the CPU loops equal the ATen reference in fp64", "[ops]") {
  at::Tensor packed = f64_tensor({17, 2 * 67}, 1, 3.0).set_requires_grad(true);
  const at::Tensor y = ops::swiglu(packed), dy = f64_tensor({17, 67}, 2);
  y.backward(dy);
  REQUIRE(max_abs_diff(y, ops::reference::swiglu_fwd(packed.detach())) <= 1e-13);
  REQUIRE(max_abs_diff(packed.grad(), ops::reference::swiglu_bwd(dy, packed.detach())) <= 1e-13);
}

TEST_CASE("swiglu: gates of any size stay finite", "[ops]") {
  at::Tensor packed = f64_tensor({3, 10}, 1, 1e4).to(at::kFloat).set_requires_grad(true);
  const at::Tensor y = ops::swiglu(packed);
  y.sum().backward();
  REQUIRE(y.isfinite().all().item<bool>());
  REQUIRE(packed.grad().isfinite().all().item<bool>());
}

TEST_CASE("swiglu: no-grad mode records nothing", "[ops]") {
  at::Tensor packed = f64_tensor({2, 6}, 1).set_requires_grad(true);
  const at::NoGradGuard no_grad;
  REQUIRE(!ops::swiglu(packed).requires_grad());
}
