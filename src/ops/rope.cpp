// The rotary embedding in plain ATen.
#include "ops/rope.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>

#include "core/check.h"

namespace transxssm::ops {

at::Tensor rotate_half(const at::Tensor& x_bthn, const RopeTable& table, const at::Tensor& positions_bt,
                       bool inverse) {
  expect(x_bthn.dim() == 4 && x_bthn.size(3) == 2 * table.cos.size(1),
         concat("rotate_half: expected [B, T, H, ", 2 * table.cos.size(1), "], got ", x_bthn.sizes()));
  expect(
      positions_bt.sizes() == x_bthn.sizes().slice(0, 2),
      concat("rotate_half positions: expected ", x_bthn.sizes().slice(0, 2), ", got ", positions_bt.sizes()));
  const int64_t half = x_bthn.size(3) / 2;
  const auto acc = x_bthn.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  // [B, T, 1, N/2]
  const auto rows = [&](const at::Tensor& of) {
    return of.index_select(0, positions_bt.flatten()).to(acc).view({x_bthn.size(0), x_bthn.size(1), 1, half});
  };
  const at::Tensor cos = rows(table.cos);
  const at::Tensor sin = inverse ? rows(table.sin).neg() : rows(table.sin);
  const at::Tensor x1 = x_bthn.narrow(-1, 0, half).to(acc);
  const at::Tensor x2 = x_bthn.narrow(-1, half, half).to(acc);
  return at::cat({x1 * cos - x2 * sin, x2 * cos + x1 * sin}, -1).to(x_bthn.scalar_type());
}

}  // namespace transxssm::ops
