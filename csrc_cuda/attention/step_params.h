// One token of attention against a cache of keys and values (ops/attention_cached.h), bf16, on any GPU.
#pragma once

#include <algorithm>
#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to

namespace transxssm::kernels {

// Rows of packed, keys, values and out begin at multiples of 16 bytes.
struct AttentionStepParams {
  int batch, heads, kv_heads;  // B, H, G; G divides H
  int width;                   // P: 64 or 128
  int64_t capacity;            // S; a position that is not below traps
  int splits;                  // attention_step_splits()
  const void* packed;          // bf16 [B, columns]: Q [H·P] | K [G·P] | V [G·P] | anything, not rotated
  int64_t packed_row_stride;
  const float* rope_cos;  // [positions, P / 2], or null for no rotation
  const float* rope_sin;
  int64_t rope_rows;         // a position that is not below traps
  const int64_t* positions;  // [B]
  void* keys;  // bf16 [B, G, S, P]: the token's key, rotated, and value are written to its place
  void* values;
  float* partial;  // [attention_step_floats()]
  void* out;       // bf16 [B, H·P]
};

// Query heads of one key head that a block takes together: 4, 2 or 1.
inline int attention_step_heads(int heads, int kv_heads) {
  const int repeat = heads / kv_heads;
  return repeat % 4 == 0 ? 4 : repeat % 2 == 0 ? 2 : 1;
}

// Parts into which a row's keys are cut: some eight blocks for each place that an H100 has for one, but no
// part shorter than 128 keys. The partition, hence the rounding, depends on nothing else.
inline int attention_step_splits(int64_t batch, int heads, int kv_heads, int64_t capacity) {
  constexpr int64_t kBlocks = 4224, kLeastKeys = 128;
  const int64_t blocks = batch * (heads / attention_step_heads(heads, kv_heads));
  const int64_t wanted = (kBlocks + blocks - 1) / std::max<int64_t>(blocks, 1);
  return static_cast<int>(std::clamp<int64_t>(wanted, 1, (capacity + kLeastKeys - 1) / kLeastKeys));
}

// Of each part and query head: P sums, the largest score and the sum of weights.
inline int64_t attention_step_floats(int64_t batch, int heads, int width, int splits) {
  return batch * heads * splits * (width + 2);
}

// Queues two kernels: parts, then their sum in a fixed order.
void attention_step(const AttentionStepParams& p, CUstream_st* stream);

}  // namespace transxssm::kernels
