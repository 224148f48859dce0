// The rotary table that attention (Q, K) and SSD (C, B) share.
#pragma once

#include <ATen/core/Tensor.h>

namespace transxssm::ops {

// cos and sin of position · θ_k for k < width / 2, times the attention factor of the scaling variant (1 but
// for yarn). f32 [positions, width / 2] (f64 in gradient checks), formed from fp64 angles. model/rope.h
// builds it.
struct RopeTable {
  at::Tensor cos;
  at::Tensor sin;
};

// Rotate-half: with x = [x₁, x₂] split in the middle of the last dimension, [x₁ c − x₂ s, x₂ c + x₁ s].
// x_bthn [B, T, H, N] f32|bf16|f64, positions_bt i64 [B, T], result like x; computed in at least f32.
// `inverse` rotates back (the transpose, hence the gradient). Plain ATen, differentiable in x.
at::Tensor rotate_half(const at::Tensor& x_bthn, const RopeTable& table, const at::Tensor& positions_bt,
                       bool inverse = false);

}  // namespace transxssm::ops
