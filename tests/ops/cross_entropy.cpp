// Cross-entropy on the CPU.
#include "ops/cross_entropy.h"

#include <ATen/ops/full.h>

#include "cross_entropy_cases.h"

using namespace transxssm;

TEST_CASE("cross_entropy: the formula and its gradients in fp64", "[ops]") {
  const double z_loss = GENERATE(0.0, 0.1);
  for (const OpCase& c : {cross_entropy_case(1, 1, 1, z_loss, 2), cross_entropy_case(7, 5, 11, z_loss),
                          cross_entropy_case(4, 3, 17, z_loss, 5)}) {
    require_literal(c);
    require_gradients(c);
  }
}

TEST_CASE("cross_entropy: rows on both sides of a chunk border count alike", "[ops]") {
  // 4 MiB of f32 logits are 209 rows of 5003: chunks of 209, 209 and 1.
  require_literal(cross_entropy_case(419, 3, 5003, 0.01));
  require_literal(cross_entropy_case(418, 3, 5003, 0.01));
}

TEST_CASE("cross_entropy: f32 and bf16 lose no more than the plain formula", "[ops]") {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    require_precision(cross_entropy_case(67, 33, 257, 0.0), dtype);
    require_precision(cross_entropy_case(31, 64, 1009, 1e-3), dtype);
  }
}

TEST_CASE("cross_entropy: the loss leaves the z-loss out", "[ops]") {
  const OpCase with = cross_entropy_case(13, 5, 29, 0.5), without = cross_entropy_case(13, 5, 29, 0.0);
  const auto result = ops::cross_entropy(with.inputs[0], with.parameters[0]->weight, with.inputs[1], 0.5);
  REQUIRE(max_abs_diff(result.loss, without.op(without.inputs, without.parameters)[0]) <= 1e-12);
  REQUIRE(!result.loss.requires_grad());
}

TEST_CASE("cross_entropy: labels that are all not counted give 0 and zero gradients", "[ops]") {
  const double z_loss = GENERATE(0.0, 0.1);
  const Tensors all = run_op(cross_entropy_case(9, 5, 11, z_loss, 1), at::kFloat);
  REQUIRE(all.size() == 3);
  for (const at::Tensor& tensor : all) REQUIRE(max_abs(tensor) == 0);
}

TEST_CASE("cross_entropy: a row that is not counted changes nothing, whatever it holds", "[ops]") {
  OpCase c = cross_entropy_case(9, 5, 11, 0.1);
  const Tensors before = run_op(c, at::kFloat);
  c.inputs[0] = c.inputs[0].clone();
  c.inputs[0][3].fill_(50);
  REQUIRE(c.inputs[1][3].item<int64_t>() == -1);
  const Tensors after = run_op(c, at::kFloat);
  for (size_t i = 0; i < before.size(); ++i) REQUIRE(same_bits(before[i], after[i]));
}

TEST_CASE("cross_entropy: logits of several hundred neither overflow nor lose the label", "[ops]") {
  OpCase c = cross_entropy_case(8, 4, 13, 0.0, 100);
  c.inputs[0] = c.inputs[0] * 300;
  const Tensors exact = run_literal(c, at::kDouble), actual = run_op(c, at::kFloat);
  for (size_t i = 0; i < exact.size(); ++i)
    REQUIRE(max_abs_diff(actual[i], exact[i]) <= 1e-5 * (1 + max_abs(exact[i])));
}

TEST_CASE("cross_entropy: the scale multiplies losses and gradients, which are added to what is there",
          "[ops]") {
  const OpCase c = cross_entropy_case(419, 3, 5003, 0.1);
  const ParameterPtr& w = c.parameters[0];
  const auto run = [&](double scale) {
    w->grad.fill_(0.5);
    return ops::cross_entropy_with_gradient(c.inputs[0], w, c.inputs[1], at::full({}, scale, at::kDouble),
                                            0.1);
  };
  const auto one = run(1);
  const at::Tensor grad_of_one = w->grad - 0.5;
  const auto scaled = run(-2.5);
  REQUIRE(max_abs_diff(scaled.dhidden, one.dhidden * -2.5) <= 1e-12 * max_abs(one.dhidden));
  REQUIRE(max_abs_diff(w->grad - 0.5, grad_of_one * -2.5) <= 1e-12 * max_abs(grad_of_one));
  REQUIRE(max_abs_diff(scaled.result.loss, one.result.loss * -2.5) <= 1e-12 * max_abs(one.result.loss));
  REQUIRE(max_abs_diff(scaled.result.objective, one.result.objective * -2.5) <=
          1e-12 * max_abs(one.result.objective));
  w->grad.zero_();
}

TEST_CASE("cross_entropy: without gradients the same sums, and nothing is recorded", "[ops]") {
  const OpCase c = cross_entropy_case(7, 5, 11, 0.1);
  const ParameterPtr& w = c.parameters[0];
  const auto with =
      ops::cross_entropy_with_gradient(c.inputs[0], w, c.inputs[1], at::ones({}, at::kDouble), 0.1);
  w->grad.zero_();
  const auto without = ops::cross_entropy(c.inputs[0], w->weight, c.inputs[1], 0.1);
  REQUIRE(same_bits(with.result.loss, without.loss));
  REQUIRE(same_bits(with.result.objective, without.objective));
  REQUIRE(max_abs(w->grad) == 0);
  REQUIRE(!without.objective.requires_grad());
}

TEST_CASE("cross_entropy: a head that is not trained passes hidden's gradient on", "[ops]") {
  const OpCase c = cross_entropy_case(7, 5, 11, 0.1);
  const at::Tensor one = at::ones({}, at::kDouble);
  const auto trained = ops::cross_entropy_with_gradient(c.inputs[0], c.parameters[0], c.inputs[1], one, 0.1);
  c.parameters[0]->grad.zero_();
  const auto alone =
      ops::cross_entropy_with_gradient(c.inputs[0], frozen(c.parameters[0]), c.inputs[1], one, 0.1);
  REQUIRE(same_bits(alone.dhidden, trained.dhidden));
}
