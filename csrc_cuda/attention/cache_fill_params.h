// The keys and values of prompts from their packed projection to the cache (ops/attention_cached.h), bf16, on
// any GPU.
#pragma once

#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to

namespace transxssm::kernels {

// Rows of packed, keys and values begin at multiples of 16 bytes.
struct CacheFillParams {
  int64_t batch, tokens, capacity;  // B, T ≤ S
  int kv_heads, width;              // G; P: 64 or 128
  const void* packed_keys;          // bf16 [B·T, G·P | …]: K of the first token; V follows K
  int64_t packed_row_stride;
  const float* rope_cos;  // [≥ T, P / 2]: K of token t is rotated by t; null: taken as it is
  const float* rope_sin;
  void* keys;  // bf16 [B, G, S, P]: places below T are written
  void* values;
};

void cache_fill(const CacheFillParams& p, CUstream_st* stream);

}  // namespace transxssm::kernels
