// Attention with a cache of keys and values: a prompt in one pass, then token by token. Without gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/attention.h"
#include "ops/documents.h"
#include "ops/rope.h"

namespace transxssm::ops {

// Rotated keys and values of the tokens seen so far. Finite everywhere: what lies beyond a row's tokens is
// multiplied by 0.
struct AttentionCache {
  at::Tensor k_bgsp;  // [B, G, capacity, P], contiguous, dtype of packed
  at::Tensor v_bgsp;
};

// Keys and values of rows of one document each, from position 0, to the cache's first T places.
void fill_attention_cache(const AttentionDims& dims, const at::Tensor& packed_btw, const RopeTable* rope,
                          const Documents& documents, AttentionCache& cache);

// attention() over rows of one document each, whose keys and values fill the cache's first T places. As
// there, a GPU may take packed's memory for rotated values.
at::Tensor attention_prefill(const AttentionDims& dims, const at::Tensor& packed_btw, const RopeTable* rope,
                             const Documents& documents, AttentionCache& cache);

// One token a row: that of row b stands at positions_b[b] (i64 [B], read on the device). Its key and value
// are written to that place of the cache, its query sees the places up to it. packed_bw [B, ≥ columns] →
// [B, H·P]. CUDA, bf16, heads 64 or 128 wide: a kernel that reads the cache in place and no further than each
// row's tokens; otherwise masked products.
at::Tensor attention_step(const AttentionDims& dims, const at::Tensor& packed_bw, const RopeTable* rope,
                          AttentionCache& cache, const at::Tensor& positions_b);

}  // namespace transxssm::ops
