// The rotary embedding written straight into a given tensor, for use inside autograd Functions.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/rope.h"

namespace transxssm::ops {

// out = rotate_half(x, table, positions, inverse); no autograd. out and x [B, T, H, N] of one dtype, views
// with a contiguous last dimension, not overlapping. CPU f32 and f64: one pass (a tenth of the time of the
// ATen formula).
void rotate_half_into(const at::Tensor& out_bthn, const at::Tensor& x_bthn, const RopeTable& table,
                      const at::Tensor& positions_bt, bool inverse = false);

}  // namespace transxssm::ops
