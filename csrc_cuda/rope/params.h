// The rotary embedding on bf16 heads (ops/rope.h), in place or into another tensor.
#pragma once

#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to

namespace transxssm::kernels {

// Heads side by side in each token's row. Pointers are 16-byte aligned, row strides (in values) multiples
// of 8.
struct RotateHeadsParams {
  const void* from;  // bf16 [tokens, heads, width]
  int64_t from_row;
  void* to;  // the same, the same memory as `from` or disjoint from it
  int64_t to_row;
  int64_t tokens;
  int heads;
  int width;                 // 64 or 128
  const float* rope_cos;     // [positions, width / 2]
  const float* rope_sin;     // [positions, width / 2]
  const int64_t* positions;  // [tokens], rows of the table
  bool inverse;              // rotate back
};

void rotate_heads(const RotateHeadsParams& p, CUstream_st* stream);

}  // namespace transxssm::kernels
