// One token of the SSD recurrence for decoding (ops/ssd.h, ssd_step), widths 128 × 128, on any GPU.
#pragma once

#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to

namespace transxssm::kernels {

inline constexpr int kSsdStepWidth = 128;  // head width P and state width N

// bf16 or f32: packed and y. Any row stride and alignment of `packed`.
struct SsdStepParams {
  int batch, heads, groups;  // B, H, G; G divides H
  bool is_bf16;
  const void* packed;  // [B, columns]: C [G·128] | B [G·128] | X [H·128] | τ [H] | anything
  int64_t packed_row_stride;
  const float* a_log;     // [H]
  const float* dt_bias;   // [H]
  const float* d_skip;    // [H] or null
  const float* rope_cos;  // [rope_rows, 64], or null for no rotation
  const float* rope_sin;
  int64_t rope_rows;         // a position that is not below fails an assertion
  const int64_t* positions;  // [B]
  int64_t positions_stride;
  float* state;  // [B, H, 128, 128], absolute frame, 16-byte aligned, updated in place
  void* y;       // [B, H·128]
};

// Queues one kernel.
void ssd_step(const SsdStepParams& p, CUstream_st* stream);

}  // namespace transxssm::kernels
