// The rotary embedding on tiles of C and B and on states in registers.
//
// SSD sees positions only as differences inside a document, so a row of T tokens turns by one running
// position, positions[b, 0] + t, documents or not.
#pragma once

#include <cuda_fp16.h>

#include "csrc_cuda/sm90/swizzle.cuh"
#include "csrc_cuda/ssd/params.h"
#include "csrc_cuda/ssd/warpgroup_tiles.cuh"

namespace transxssm::kernels {

// cos and sin of every angle over the rows between two of a thread's, without the table's scale. In fours,
// the first of each octet before the second, so that eight threads read all banks.
struct alignas(16) RotationStep {
  float cos[kSsdWidth / 2], sin[kSsdWidth / 2];
  __device__ static int place(int angle) {
    return angle / 4 % 2 * (kSsdWidth / 4) + angle / 8 * 4 + angle % 4;
  }
};

// cos and sin of a chunk's 64 positions × 64 angles, rounded to f16 (2e-4, a tenth of bf16's own rounding),
// for turning gradients back. 16-byte pieces of four angles, at piece XOR twice the row, so that eight rows
// fall into all banks. As large as two tiles, and aligned as such: gradients leave by way of it.
struct alignas(1024) AngleTable {
  static constexpr int kRowBytes = kSsdWidth / 2 * static_cast<int>(sizeof(__half2));
  unsigned char bytes[kSsdChunk * kRowBytes];

  // The place of an angle.
  __device__ static uint32_t offset(int row, int angle) {
    const int piece = (angle / 4) ^ ((row & 7) << 1);
    return static_cast<uint32_t>(row * kRowBytes + (piece << 4) +
                                 angle % 4 * static_cast<int>(sizeof(__half2)));
  }

  // Turns accumulators [64 × 128] back.
  __device__ void turn_back(float (&d)[64]) const {
    const uint32_t first_piece = offset(accumulator_row_anew(), accumulator_column_anew());
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const unsigned char* place = bytes + sm90::other_piece(first_piece, 2 * k);
#pragma unroll
      for (int half = 0; half < 2; ++half) {  // eight rows on, the order of pieces is the same
        const uint2 two = *reinterpret_cast<const uint2*>(place + half * 8 * kRowBytes);
        turn_pair_back(d[4 * k + 2 * half], d[4 * (k + 8) + 2 * half], two.x);
        turn_pair_back(d[4 * k + 2 * half + 1], d[4 * (k + 8) + 2 * half + 1], two.y);
      }
    }
  }

 private:
  // One element of each half of the columns.
  __device__ static void turn_pair_back(float& x, float& y, uint32_t angle) {
    const float2 cos_sin = __half22float2(*reinterpret_cast<const __half2*>(&angle));
    const float turned = x * cos_sin.x + y * cos_sin.y;
    y = y * cos_sin.x - x * cos_sin.y;
    x = turned;
  }
};

// kThreads threads that turn 64 × 128 matrices in place. Each owns eight angles and every kRowsAtOnce-th row:
// it reads the angles of its first row from the table and turns them on from row to row.
template <int kThreads>
class Rotation {
 public:
  // `thread` of kThreads; `barrier`: a named barrier of their own.
  __device__ Rotation(const SsdInputs& in, int b, int thread, RotationStep& step, int barrier)
      : cos_(in.rope_cos), sin_(in.rope_sin), step_(step), row_(thread / 8), octet_(thread % 8) {
    if (!cos_) return;
    last_row_ = static_cast<int>(in.rope_rows) - 1;
    const int64_t first = in.positions[static_cast<int64_t>(b) * in.tokens];
    // Angles that the table does not have. A call that could say so would serialise the kernels' products.
    if (first < 0 || first + in.tokens > in.rope_rows) __trap();
    first_position_ = static_cast<int>(first);
    if (thread < kSsdWidth / 2) {
      const float attention_factor = cos_[0];  // scales the whole table
      const int at = min(kRowsAtOnce, last_row_) * (kSsdWidth / 2) + thread;
      step.cos[RotationStep::place(thread)] = cos_[at] / attention_factor;
      step.sin[RotationStep::place(thread)] = sin_[at] / attention_factor;
    }
    sm90::named_barrier_sync(barrier, kThreads);
  }

  // Reads the angles for a chunk that begins at token `first_token`.
  __device__ void prepare(int first_token) {
    if (cos_) {
      load_row(first_position_ + first_token + row_, angle_cos_, angle_sin_);
    } else {
#pragma unroll
      for (int i = 0; i < kAngles; ++i) angle_cos_[i] = angle_sin_[i] = 0;
    }
  }

  // Turns one or two 64 × 128 matrices. After prepare().
  template <int kMatrices>
  __device__ void turn(unsigned char* const (&matrices)[kMatrices]) {
    turn_rows(matrices, nullptr);
  }
  // And notes the angles.
  template <int kMatrices>
  __device__ void turn(unsigned char* const (&matrices)[kMatrices], AngleTable& table) {
    turn_rows(matrices, &table);
  }

 private:
  static constexpr int kAngles = 8;
  static constexpr int kRowsAtOnce = kThreads / 8;

  template <int kMatrices>
  __device__ void turn_rows(unsigned char* const (&matrices)[kMatrices], AngleTable* table) {
    if (!cos_) return;
    const int row = computed_anew(row_), octet = computed_anew(octet_);
    uint32_t offset = sm90::piece_offset(row, octet);  // the same swizzle in all its rows
#pragma unroll 1                                       // for want of registers
    for (int r = 0; r < kSsdChunk; r += kRowsAtOnce) {
      // All reads before the first write: the compiler can't tell that they are of other places.
      uint4 pieces[kMatrices][2];
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
        pieces[m][0] = *reinterpret_cast<const uint4*>(matrices[m] + offset);
        pieces[m][1] = *reinterpret_cast<const uint4*>(matrices[m] + offset + sm90::kTileBytes);
      }
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
        turn_pieces(pieces[m]);
        *reinterpret_cast<uint4*>(matrices[m] + offset) = pieces[m][0];
        *reinterpret_cast<uint4*>(matrices[m] + offset + sm90::kTileBytes) = pieces[m][1];
      }
      if (table) note_angles(row + r, octet, *table);
      if (r + kRowsAtOnce == kSsdChunk) break;
      advance(octet);
      offset += kRowsAtOnce * sm90::kRowBytes;
    }
  }

  __device__ void load_row(int position, float (&cos)[kAngles], float (&sin)[kAngles]) const {
    const auto at = static_cast<unsigned>(min(position, last_row_) * (kSsdWidth / 2) + octet_ * kAngles);
#pragma unroll
    for (int i = 0; i < kAngles; i += 4) {
      *reinterpret_cast<float4*>(cos + i) = __ldg(reinterpret_cast<const float4*>(cos_ + at + i));
      *reinterpret_cast<float4*>(sin + i) = __ldg(reinterpret_cast<const float4*>(sin_ + at + i));
    }
  }

  // To the angles of the thread's next row.
  __device__ void advance(int octet) {
    float step_cos[kAngles], step_sin[kAngles];
#pragma unroll
    for (int i = 0; i < kAngles; i += 4) {
      const int at = RotationStep::place(octet * kAngles + i);
      *reinterpret_cast<float4*>(step_cos + i) = *reinterpret_cast<const float4*>(step_.cos + at);
      *reinterpret_cast<float4*>(step_sin + i) = *reinterpret_cast<const float4*>(step_.sin + at);
    }
#pragma unroll
    for (int i = 0; i < kAngles; ++i) {
      const float c = angle_cos_[i], s = angle_sin_[i];
      angle_cos_[i] = c * step_cos[i] - s * step_sin[i];
      angle_sin_[i] = s * step_cos[i] + c * step_sin[i];
    }
  }

  __device__ void note_angles(int row, int octet, AngleTable& table) const {
#pragma unroll
    for (int i = 0; i < kAngles; i += 4) {
      __half2 four[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) four[k] = __floats2half2_rn(angle_cos_[i + k], angle_sin_[i + k]);
      *reinterpret_cast<uint4*>(table.bytes + AngleTable::offset(row, octet * kAngles + i)) =
          *reinterpret_cast<const uint4*>(four);
    }
  }

  // Eight columns of the lower half and the eight that they turn with.
  __device__ void turn_pieces(uint4 (&pieces)[2]) const {
    uint32_t* xs = reinterpret_cast<uint32_t*>(&pieces[0]);
    uint32_t* ys = reinterpret_cast<uint32_t*>(&pieces[1]);
#pragma unroll
    for (int i = 0; i < kAngles / 2; ++i) {
      const float x0 = sm90::low_half(xs[i]), x1 = sm90::high_half(xs[i]);
      const float y0 = sm90::low_half(ys[i]), y1 = sm90::high_half(ys[i]);
      const float c0 = angle_cos_[2 * i], c1 = angle_cos_[2 * i + 1];
      const float s0 = angle_sin_[2 * i], s1 = angle_sin_[2 * i + 1];
      xs[i] = sm90::pack_bf16(x0 * c0 - y0 * s0, x1 * c1 - y1 * s1);
      ys[i] = sm90::pack_bf16(y0 * c0 + x0 * s0, y1 * c1 + x1 * s1);
    }
  }

  const float *cos_, *sin_;
  const RotationStep& step_;
  int row_, octet_;
  int last_row_ = 0, first_position_ = 0;
  float angle_cos_[kAngles], angle_sin_[kAngles];
};

}  // namespace transxssm::kernels
