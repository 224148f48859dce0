// Token embedding on the CPU.
#include "ops/embedding.h"

#include <ATen/core/grad_mode.h>

#include "linear_cases.h"

using namespace transxssm;

TEST_CASE("embedding: the formula and its gradient in fp64", "[ops]") {
  for (const OpCase& c :
       {embedding_case(1, 1, 1, 1), embedding_case(2, 7, 5, 3), embedding_case(3, 11, 61, 4)}) {
    require_literal(c);
    require_gradients(c);
  }
}

TEST_CASE("embedding: bf16 rows are copied exactly and their gradients summed in f32", "[ops]") {
  const OpCase c = embedding_case(2, 211, 3, 5);
  const Tensors exact = run_op(c, at::kDouble), actual = run_op(c, at::kBFloat16);
  REQUIRE(same_bits(actual[0], exact[0].to(at::kBFloat16)));
  REQUIRE(actual[1].scalar_type() == at::kFloat);
  // A sum of a few hundred gradients, each rounded to bf16 (2⁻⁹ relative) before it arrives.
  REQUIRE(max_abs_diff(actual[1], exact[1]) <= 0.002 * 211 * 2);
}

TEST_CASE("embedding: the gradient has the same bits in every run", "[ops]") {
  const OpCase c = embedding_case(4, 257, 7, 33);
  REQUIRE(same_bits(run_op(c, at::kFloat)[1], run_op(c, at::kFloat)[1]));
}

TEST_CASE("embedding: inference and no-grad mode record nothing", "[ops]") {
  const OpCase c = embedding_case(2, 3, 5, 4);
  REQUIRE(!ops::embedding(c.inputs[0], frozen(c.parameters[0])).requires_grad());
  const at::NoGradGuard no_grad;
  REQUIRE(!ops::embedding(c.inputs[0], c.parameters[0]).requires_grad());
}
