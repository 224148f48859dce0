// Cross-entropy on the CPU.
#include "ops/cross_entropy.h"

#include <ATen/core/grad_mode.h>

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

TEST_CASE("cross_entropy: the loss leaves the z-loss out and carries no gradient", "[ops]") {
  const OpCase with = cross_entropy_case(13, 5, 29, 0.5), without = cross_entropy_case(13, 5, 29, 0.0);
  const auto result = ops::cross_entropy(with.inputs[0], with.parameters[0], with.inputs[1], 0.5);
  REQUIRE(max_abs_diff(result.loss, without.op(without.inputs, without.parameters)[0]) <= 1e-12);
  REQUIRE(result.objective.requires_grad());
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

TEST_CASE("cross_entropy: the gradient scales with what comes in", "[ops]") {
  const OpCase c = cross_entropy_case(7, 5, 11, 0.1);
  gradcheck([&](const Tensors& x) { return Tensors{c.op(x, c.parameters)[0] * -2.5}; }, c.inputs,
            c.parameters);
}

TEST_CASE("cross_entropy: inference and no-grad mode record nothing", "[ops]") {
  const OpCase c = cross_entropy_case(7, 5, 11, 0.1);
  const auto inference = ops::cross_entropy(c.inputs[0], frozen(c.parameters[0]), c.inputs[1]);
  REQUIRE(!inference.objective.requires_grad());
  const at::NoGradGuard no_grad;
  REQUIRE(!ops::cross_entropy(c.inputs[0], c.parameters[0], c.inputs[1]).objective.requires_grad());
}
