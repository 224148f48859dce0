// A warpgroup's half of a state, 64 rows p × 128 columns n, in accumulators (sm90/wgmma.cuh), to and from
// memory.
#pragma once

#include "csrc_cuda/ssd/params.h"
#include "csrc_cuda/ssd/warpgroup_tiles.cuh"

namespace transxssm::kernels {

// Offset of this thread's first element of rows [first_row, first_row + 64) of the index-th state.
__device__ inline int64_t state_offset(int64_t index, int first_row) {
  return (index * kSsdWidth + first_row + accumulator_row()) * kSsdWidth + accumulator_column();
}

// Zeros from a null pointer.
__device__ inline void read_state(float (&state)[64], const float* states, int64_t index, int first_row) {
  const float* from = states ? states + state_offset(index, first_row) : nullptr;
#pragma unroll
  for (int k = 0; k < 16; ++k) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float2 pair = from ? *reinterpret_cast<const float2*>(from + 8 * half * kSsdWidth + 8 * k)
                               : make_float2(0.f, 0.f);
      state[4 * k + 2 * half] = pair.x;
      state[4 * k + 2 * half + 1] = pair.y;
    }
  }
}

__device__ inline void write_state(const float (&state)[64], float* states, int64_t index, int first_row) {
  float* to = states + state_offset(index, first_row);
#pragma unroll
  for (int k = 0; k < 16; ++k) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
      *reinterpret_cast<float2*>(to + 8 * half * kSsdWidth + 8 * k) =
          make_float2(state[4 * k + 2 * half], state[4 * k + 2 * half + 1]);
  }
}

// By how many positions a row's last token lies further on in the scan's frame than in the absolute one.
__device__ inline int64_t frame_surplus(const SsdInputs& in, int b) {
  const int64_t* positions = in.positions + static_cast<int64_t>(b) * in.tokens;
  return positions[0] + in.tokens - 1 - positions[in.tokens - 1];
}

// From the scan's frame to the absolute frame of the row's last token's document, or back.
__device__ inline void turn_to_absolute(float (&state)[64], const SsdInputs& in, int b, bool back) {
  if (!in.rope_cos) return;
  const int64_t surplus = frame_surplus(in, b);
  const float attention_factor = in.rope_cos[0];
  const float direction = back ? -1.f / attention_factor : 1.f / attention_factor;
#pragma unroll
  for (int k = 0; k < 8; ++k) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int64_t at = surplus * (kSsdWidth / 2) + 8 * k + accumulator_column() + e % 2;
      const float c = in.rope_cos[at] / attention_factor, s = in.rope_sin[at] * direction;
      const float x = state[4 * k + e], y = state[4 * (k + 8) + e];
      state[4 * k + e] = x * c + y * s;
      state[4 * (k + 8) + e] = y * c - x * s;
    }
  }
}

// The same for one pair of columns `column`, `column` + 64, back to the scan's frame.
__device__ inline void turn_pair_to_scan(float& x, float& y, const SsdInputs& in, int b, int column) {
  const int64_t at = frame_surplus(in, b) * (kSsdWidth / 2) + column;
  const float attention_factor = in.rope_cos[0];
  const float c = in.rope_cos[at] / attention_factor, s = in.rope_sin[at] / attention_factor;
  const float turned = x * c - y * s;
  y = y * c + x * s;
  x = turned;
}

}  // namespace transxssm::kernels
