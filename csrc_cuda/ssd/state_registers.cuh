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

// From the scan's frame to the absolute frame of the row's last token's document, or back. With a rotary
// table.
class FrameTurn {
 public:
  __device__ FrameTurn(const SsdInputs& in, int b, bool back) : cos_(in.rope_cos), sin_(in.rope_sin) {
    const int64_t* positions = in.positions + static_cast<int64_t>(b) * in.tokens;
    // By how many positions the row's last token lies further on in the scan's frame.
    const int64_t surplus = positions[0] + in.tokens - 1 - positions[in.tokens - 1];
    attention_factor_ = cos_[0];  // scales the whole table
    direction_ = back ? -1.f / attention_factor_ : 1.f / attention_factor_;
    cos_ += surplus * (kSsdWidth / 2);
    sin_ += surplus * (kSsdWidth / 2);
  }

  // Elements `column` and `column` + 64 of a row.
  __device__ void turn(float& x, float& y, int column) const {
    const float c = cos_[column] / attention_factor_, s = sin_[column] * direction_;
    const float turned = x * c + y * s;
    y = y * c - x * s;
    x = turned;
  }

 private:
  const float *cos_, *sin_;
  float attention_factor_, direction_;
};

__device__ inline void turn_to_absolute(float (&state)[64], const SsdInputs& in, int b, bool back) {
  if (!in.rope_cos) return;
  const FrameTurn frame(in, b, back);
#pragma unroll
  for (int k = 0; k < 8; ++k) {
#pragma unroll
    for (int e = 0; e < 4; ++e)
      frame.turn(state[4 * k + e], state[4 * (k + 8) + e], 8 * k + accumulator_column() + e % 2);
  }
}

}  // namespace transxssm::kernels
