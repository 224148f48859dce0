// Causal attention by plain masked products, for any dtype and device: the oracle, the reproducible path on
// CUDA, and the one that decoding takes. Memory is bounded: a block of queries at a time, probabilities
// rebuilt in backward.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace transxssm::ops {

// Queries, keys and values (or their gradients), rotated where there is a rotation. Strided views are fine.
struct AttentionHeads {
  at::Tensor q_bthp;
  at::Tensor k_bsgp;  // S = T in training; decoding has more keys than queries
  at::Tensor v_bsgp;
};

namespace reference {

// Query i of a row stands at place S − T + i and sees the keys j ≤ S − T + i; with `ids_bs` only those of its
// own document. Returns [B, T, H, P] like q, contiguous.
at::Tensor attention_fwd(const AttentionHeads& x, const at::Tensor& ids_bs);

// Writes all of `grads`, tensors shaped like those of `x`.
void attention_bwd(const at::Tensor& dout_bthp, const AttentionHeads& x, const at::Tensor& ids_bs,
                   const AttentionHeads& grads);

}  // namespace reference
}  // namespace transxssm::ops
