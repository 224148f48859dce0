// The rotary embedding.
#include "ops/rope.h"

#include <cmath>

#include "support/catch.h"
#include "support/compare.h"
#include "support/gradcheck.h"
#include "support/ssd_case.h"

using namespace transxssm;

TEST_CASE("rope: channel k turns with channel k + N/2 by the angle of its position", "[ops]") {
  const at::Tensor x = f64_tensor({1, 2, 1, 4}, 1);
  const at::Tensor positions = at::arange(5, 7).view({1, 2});
  const at::Tensor y = ops::rotate_half(x, f64_rope(10, 4), positions);
  for (int64_t t = 0; t < 2; ++t) {
    for (int64_t k = 0; k < 2; ++k) {
      const double angle = static_cast<double>(5 + t) * std::pow(100.0, -0.5 * static_cast<double>(k));
      const double a = x[0][t][0][k].item<double>(), b = x[0][t][0][k + 2].item<double>();
      REQUIRE(std::abs(y[0][t][0][k].item<double>() - (a * std::cos(angle) - b * std::sin(angle))) < 1e-14);
      REQUIRE(std::abs(y[0][t][0][k + 2].item<double>() - (b * std::cos(angle) + a * std::sin(angle))) <
              1e-14);
    }
  }
}

TEST_CASE("rope: the inverse undoes the rotation", "[ops]") {
  const ops::RopeTable table = f64_rope(40, 6);
  const at::Tensor x = f64_tensor({2, 7, 3, 6}, 1);
  const at::Tensor positions = at::arange(14).view({2, 7});
  const at::Tensor y = ops::rotate_half(x, table, positions);
  REQUIRE(max_abs_diff(ops::rotate_half(y, table, positions, /*inverse=*/true), x) < 1e-14);
}

TEST_CASE("rope: products depend on the difference of positions only", "[ops]") {
  const ops::RopeTable table = f64_rope(1000, 8);
  const at::Tensor q = f64_tensor({1, 1, 1, 8}, 1), k = f64_tensor({1, 1, 1, 8}, 2);
  const auto product = [&](int64_t i, int64_t j) {
    const auto at_position = [&](const at::Tensor& x, int64_t p) {
      return ops::rotate_half(x, table, at::arange(p, p + 1).view({1, 1}));
    };
    return (at_position(q, i) * at_position(k, j)).sum().item<double>();
  };
  REQUIRE(std::abs(product(900, 893) - product(7, 0)) < 1e-12);
}

TEST_CASE("rope: backward agrees with central differences", "[ops]") {
  const ops::RopeTable table = f64_rope(10, 4);
  const at::Tensor positions = at::arange(6).view({2, 3});
  gradcheck(
      [&](const std::vector<at::Tensor>& in) {
        return std::vector{ops::rotate_half(in[0], table, positions)};
      },
      {f64_tensor({2, 3, 2, 4}, 1)}, {});
}

TEST_CASE("rope: bf16 input is computed in f32 and rounded once", "[ops]") {
  const ops::RopeTable table = f64_rope(3000, 16, 10000);
  const ops::RopeTable f32{table.cos.to(at::kFloat), table.sin.to(at::kFloat)};
  const at::Tensor positions = at::arange(2900, 3000).view({1, 100});
  const at::Tensor x = f64_tensor({1, 100, 2, 16}, 1).to(at::kBFloat16);
  const at::Tensor y = ops::rotate_half(x, f32, positions);
  REQUIRE(y.scalar_type() == at::kBFloat16);
  const at::Tensor exact = ops::rotate_half(x.to(at::kDouble), table, positions);
  // Half a unit in the last place of bf16, 2⁻⁹, of the largest value.
  REQUIRE(max_abs_diff(y, exact) <= 0x1p-8 * max_abs(exact));
}

TEST_CASE("rope: a table of another width is refused", "[ops]") {
  REQUIRE_THROWS(ops::rotate_half(f64_tensor({1, 1, 1, 8}, 1), f64_rope(4, 6), at::arange(1).view({1, 1})));
}
