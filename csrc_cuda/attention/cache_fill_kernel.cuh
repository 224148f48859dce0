// Filling the cache, device code: every value is read and written once.
#pragma once

#include <cuda_bf16.h>

#include "csrc_cuda/attention/cache_fill_params.h"
#include "csrc_cuda/common/vec_io.cuh"

namespace transxssm::kernels {

inline constexpr int kCacheFillThreads = 256;

// A thread takes eight channels of the first half of a key head, the eight they turn with, and the same of
// its value head. Neighbouring threads write neighbouring channels, then neighbouring tokens.
template <int kWidth>
__global__ void __launch_bounds__(kCacheFillThreads) cache_fill_kernel(const CacheFillParams p) {
  constexpr int kHalf = kWidth / 2, kThreadsPerHead = kHalf / kVectorWidth;
  const int64_t thread = int64_t{blockIdx.x} * kCacheFillThreads + threadIdx.x;
  const int64_t token = thread / kThreadsPerHead;
  if (token >= p.tokens) return;
  const int channel = static_cast<int>(thread % kThreadsPerHead) * kVectorWidth;
  const int64_t group = blockIdx.y, b = blockIdx.z;

  const auto* const key = static_cast<const __nv_bfloat16*>(p.packed_keys) +
                          (b * p.tokens + token) * p.packed_row_stride + group * kWidth + channel;
  const auto* const value = key + p.kv_heads * kWidth;
  const uint4 low = load_bits(key), high = load_bits(key + kHalf);
  const uint4 value_low = load_bits(value), value_high = load_bits(value + kHalf);
  const int64_t to = ((b * p.kv_heads + group) * p.capacity + token) * kWidth + channel;
  auto* const keys = static_cast<__nv_bfloat16*>(p.keys) + to;
  auto* const values = static_cast<__nv_bfloat16*>(p.values) + to;
  *reinterpret_cast<uint4*>(values) = value_low;
  *reinterpret_cast<uint4*>(values + kHalf) = value_high;
  if (!p.rope_cos) {
    *reinterpret_cast<uint4*>(keys) = low;
    *reinterpret_cast<uint4*>(keys + kHalf) = high;
    return;
  }
  const Float8 cos = load_vector(p.rope_cos + token * kHalf + channel);
  const Float8 sin = load_vector(p.rope_sin + token * kHalf + channel);
  const Float8 x1 = to_values(low), x2 = to_values(high);
  Float8 y1, y2;
#pragma unroll
  for (int i = 0; i < kVectorWidth; ++i) {
    y1.x[i] = x1.x[i] * cos.x[i] - x2.x[i] * sin.x[i];
    y2.x[i] = x2.x[i] * cos.x[i] + x1.x[i] * sin.x[i];
  }
  store_vector(keys, y1);
  store_vector(keys + kHalf, y2);
}

}  // namespace transxssm::kernels
