// The rotary embedding, device code: every value is read and written once.
#pragma once

#include <cuda_bf16.h>

#include "csrc_cuda/common/vec_io.cuh"
#include "csrc_cuda/rope/params.h"

namespace transxssm::kernels {

inline constexpr int kRotateThreads = 256;
inline constexpr int kHeadsPerThread = 2;

// Eight channels of the first half of a head and the eight they turn with.
template <int kWidth, bool kInverse>
__device__ inline void rotate_pairs(__nv_bfloat16* to, const Float8& x1, const Float8& x2, const Float8& cos,
                                    const Float8& sin) {
  Float8 y1, y2;
#pragma unroll
  for (int i = 0; i < kVectorWidth; ++i) {
    const float s = kInverse ? -sin.x[i] : sin.x[i];
    y1.x[i] = x1.x[i] * cos.x[i] - x2.x[i] * s;
    y2.x[i] = x2.x[i] * cos.x[i] + x1.x[i] * s;
  }
  store_vector(to, y1);
  store_vector(to + kWidth / 2, y2);
}

// A thread takes the same channels of several heads of a token, so that it reads its part of the table once;
// neighbouring threads take neighbouring channels. Blocks go from the last token to the first: who wrote the
// heads wrote the last ones last, so that they are found in the L2 cache, and who reads them begins with the
// first.
template <int kWidth, bool kInverse>
__global__ void __launch_bounds__(kRotateThreads) rotate_heads_kernel(const RotateHeadsParams p) {
  constexpr int kThreadsPerHead = kWidth / 2 / kVectorWidth;
  const unsigned thread = (gridDim.x - 1 - blockIdx.x) * kRotateThreads + threadIdx.x;
  const unsigned channel = thread % kThreadsPerHead * kVectorWidth, group = thread / kThreadsPerHead;
  const unsigned groups = (p.heads + kHeadsPerThread - 1) / kHeadsPerThread;
  const int64_t token = group / groups;
  const int first = static_cast<int>(group % groups) * kHeadsPerThread;
  if (token >= p.tokens) return;

  const auto* from = static_cast<const __nv_bfloat16*>(p.from) + token * p.from_row + channel;
  auto* to = static_cast<__nv_bfloat16*>(p.to) + token * p.to_row + channel;
  uint4 low[kHeadsPerThread], high[kHeadsPerThread];
#pragma unroll
  for (int i = 0; i < kHeadsPerThread; ++i) {
    if (first + i >= p.heads) break;
    low[i] = load_bits(from + (first + i) * kWidth);
    high[i] = load_bits(from + (first + i) * kWidth + kWidth / 2);
  }
  const int64_t row = p.positions[token] * (kWidth / 2) + channel;
  const Float8 cos = load_vector(p.rope_cos + row);
  const Float8 sin = load_vector(p.rope_sin + row);
#pragma unroll
  for (int i = 0; i < kHeadsPerThread; ++i) {
    if (first + i >= p.heads) break;
    rotate_pairs<kWidth, kInverse>(to + (first + i) * kWidth, to_values(low[i]), to_values(high[i]), cos,
                                   sin);
  }
}

}  // namespace transxssm::kernels
