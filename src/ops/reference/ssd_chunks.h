// The inputs of the chunked SSD reference, cut into chunks, and their way back into one packed gradient.
//
// Chunks come first, then sequences, then heads ([K, B, H, L, ·]): a batched product runs over all of them,
// and the states of one chunk are one contiguous block for the recurrence.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/parameter.h"
#include "ops/documents.h"
#include "ops/rope.h"
#include "ops/ssd.h"

namespace transxssm::ops::reference {

// Everything of a call but the differentiable tensors; kept for backward.
struct SsdCall : torch::CustomClassHolder {
  SsdDims dims;
  ParameterPtr a_log_h;
  ParameterPtr dt_bias_h;
  ParameterPtr d_skip_h;  // may be null
  RopeTable rope;         // undefined tensors: no rotation
  Documents documents;
  bool has_initial_state = false;

  int64_t chunk_len() const { return std::min(dims.chunk_size, documents.seq_len); }          // L
  int64_t num_chunks() const { return (documents.seq_len + chunk_len() - 1) / chunk_len(); }  // K
  int64_t padded_len() const { return num_chunks() * chunk_len(); }                           // K·L
  int64_t cb_columns() const { return 2 * dims.num_groups * dims.state_dim; }                 // C and B
  int64_t x_columns() const { return dims.num_heads * dims.head_dim; }                        // X
};

// Which tokens of a chunk belong together.
struct ChunkMasks {
  at::Tensor visible;      // bool [L, L] or [B, K, L, L]: j ≤ i and in the same document
  at::Tensor from_carry;   // bool [K, B, 1, L]: in the document that the previous chunk ended in
  at::Tensor reaches_end;  // bool [K, B, 1, L]: in the document that this chunk ends in
  at::Tensor
      starts_alone;  // bool [B, K, 1, L]: first of its document, no state comes in: its decay has no effect
};

ChunkMasks make_chunk_masks(const SsdCall& call);

// Decay inside a chunk. s_i is the sum of the log-decays from i's document's first token in the chunk to i;
// every exponent is a sum of log-decays over a forward range, hence ≤ 0, and clamped where rounding could say
// otherwise.
struct ChunkDecay {
  at::Tensor s;           // [K, B, H, L, 1]
  at::Tensor from_carry;  // [K, B, H, L, 1] e^{s_i}: what the carried state keeps up to token i; 0 for other
                          // documents
  at::Tensor
      to_end;  // [K, B, H, L, 1] e^{s_last − s_j}: what token j keeps up to the end; 0 for other documents
  at::Tensor carry;  // [K, B, H, 1, 1] what the carried state keeps over the whole chunk
};

ChunkDecay make_chunk_decay(const at::Tensor& a_bklh, const ChunkMasks& masks);

// e^{s_i − s_j} where token j is visible from token i, else 0. [K, B, H, L, L]
at::Tensor pair_decay(const at::Tensor& s, const ChunkMasks& masks);

// The packed projection up to its last used column, in the accumulation type, zero rows added up to K·L
// tokens: [B, K, L, columns]. A view where nothing has to change.
at::Tensor packed_chunks(const SsdCall& call, const at::Tensor& packed_btw);

// τ + dt_bias and Δ, [B, K, L, H]. Δ is 0 on padding tokens: they neither decay nor add to the state.
struct TimeSteps {
  at::Tensor pre_activation;
  at::Tensor dt;
};
TimeSteps make_time_steps(const SsdCall& call, const at::Tensor& packed_bklw);

// Rotated C and B, repeated for the heads of a group: [2, K, B, H, L, N].
at::Tensor load_cb(const SsdCall& call, const at::Tensor& packed_bklw);

// The transpose of load_cb: rotates gradients back and sums over the heads of a group into grad_bklw's first
// columns.
void store_cb_gradient(const SsdCall& call, const at::Tensor& dcb, const at::Tensor& grad_bklw);

// X as it lies in the packed projection: a view [B, K, L, H, P].
at::Tensor x_view(const SsdCall& call, const at::Tensor& packed_bklw);

// [B, K, L, H, ·] ↔ [K, B, H, L, ·], as views.
inline at::Tensor to_chunk_major(const at::Tensor& bklh) { return bklh.permute({1, 0, 3, 2, 4}); }
inline at::Tensor to_token_major(const at::Tensor& kbhl) { return kbhl.permute({1, 0, 3, 2, 4}); }

}  // namespace transxssm::ops::reference
