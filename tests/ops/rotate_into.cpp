// The one-pass rotary embedding against the ATen formula.
#include "ops/rotate_into.h"

#include <ATen/ops/zeros_like.h>

#include "ops/documents.h"
#include "support/compare.h"
#include "support/gradcheck.h"

using namespace transxssm;

TEST_CASE("rotate_half_into: equals rotate_half, both ways, between strided views", "[ops]") {
  const auto dtype = GENERATE(at::kDouble, at::kFloat, at::kBFloat16);
  const int64_t width = GENERATE(2, 6, 64);
  const auto table_dtype = dtype == at::kDouble ? at::kDouble : at::kFloat;
  const ops::RopeTable table{f64_tensor({13, width / 2}, 1).to(table_dtype),
                             f64_tensor({13, width / 2}, 2).to(table_dtype)};
  const at::Tensor positions = ops::one_document_per_row(2, 7, at::kCPU, 6).positions;
  const at::Tensor packed = f64_tensor({2, 7, 3 * width + 5}, 3).to(dtype);
  const at::Tensor x = packed.narrow(2, 4, 3 * width).unflatten(2, {3, width});
  for (const bool inverse : {false, true}) {
    const at::Tensor wide = at::zeros_like(packed);
    const at::Tensor out = wide.narrow(2, 1, 3 * width).unflatten(2, {3, width});
    ops::rotate_half_into(out, x, table, positions, inverse);
    const double rounding = dtype == at::kDouble ? 0x1p-52 : 0x1p-23;
    REQUIRE(max_abs_diff(out, ops::rotate_half(x, table, positions, inverse)) <=
            8 * rounding * max_abs(x) * max_abs(table.cos));
    REQUIRE(max_abs(wide.narrow(2, 0, 1)) == 0);
    REQUIRE(max_abs(wide.narrow(2, 3 * width + 1, 4)) == 0);
  }
}
