// Causal attention by plain masked products, for any dtype and device: the oracle, and the reproducible path
// on CUDA. Memory is bounded: a block of queries at a time, probabilities rebuilt in backward.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace transxssm::ops {

// Queries, keys and values (or their gradients), rotated where there is a rotation. Strided views are fine.
struct AttentionHeads {
  at::Tensor q_bthp;
  at::Tensor k_bsgp;  // S = T
  at::Tensor v_bsgp;
};

namespace reference {

// Query i of a row sees the keys j ≤ i of its own document, `ids_bs`. Returns [B, T, H, P] like q,
// contiguous.
at::Tensor attention_fwd(const AttentionHeads& x, const at::Tensor& ids_bs);

// Writes all of `grads`, tensors shaped like those of `x`.
void attention_bwd(const at::Tensor& dout_bthp, const AttentionHeads& x, const at::Tensor& ids_bs,
                   const AttentionHeads& grads);

}  // namespace reference
}  // namespace transxssm::ops
