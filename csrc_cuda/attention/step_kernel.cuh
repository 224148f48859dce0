// Decode attention, device code. It only streams the cache: everything else is small beside it.
#pragma once

#include <cuda_bf16.h>

#include "csrc_cuda/attention/step_params.h"
#include "csrc_cuda/common/reduce.cuh"
#include "csrc_cuda/common/vec_io.cuh"

namespace transxssm::kernels {

inline constexpr int kStepThreads = 128;
inline constexpr int kStepWarps = kStepThreads / kWarpSize;
inline constexpr int kStepLoads = 8;  // of keys, and of values, that a lane has under way together

// A lane holds eight neighbouring channels of a place; the lanes of a warp cover kPlaces places.
template <int kWidth>
struct StepLanes {
  static constexpr int kPerPlace = kWidth / kVectorWidth;
  static constexpr int kPlaces = kWarpSize / kPerPlace;
  static constexpr int kTile = kPlaces * kStepLoads;  // places that a warp takes at a time
};

// Eight channels of a head of `packed`, rotated, in bf16's values as prefill has them.
template <int kWidth>
__device__ Float8 rotated_channels(const AttentionStepParams& p, const __nv_bfloat16* head, int channel,
                                   int64_t position) {
  Float8 own = load_vector(head + channel);
  if (!p.rope_cos) return own;
  constexpr int kHalf = kWidth / 2;
  const Float8 other = load_vector(head + (channel ^ kHalf));
  const int64_t at = position * kHalf + channel % kHalf;
  const Float8 cos = load_vector(p.rope_cos + at), sin = load_vector(p.rope_sin + at);
  const float sign = channel < kHalf ? -1.f : 1.f;  // x₁ c − x₂ s, x₂ c + x₁ s
#pragma unroll
  for (int i = 0; i < kVectorWidth; ++i) own.x[i] = own.x[i] * cos.x[i] + sign * (other.x[i] * sin.x[i]);
  return rounded_to_bf16(own);
}

// Softmax over some places, not yet divided: weights relative to 2^largest. All lanes of a warp share
// `largest`; those of one place's channels have the sums over their places.
struct StepSums {
  float largest = -INFINITY;
  float weight = 0;
  Float8 sum = {};
};

// q · k over the lanes of a place, the same in each of them.
template <int kWidth>
__device__ float dot(const Float8& q, const Float8& k) {
  float s = 0;
#pragma unroll
  for (int i = 0; i < kVectorWidth; ++i) s = fmaf(q.x[i], k.x[i], s);
#pragma unroll
  for (int offset = StepLanes<kWidth>::kPerPlace / 2; offset > 0; offset /= 2)
    s += __shfl_xor_sync(0xffffffffu, s, offset);
  return s;
}

// Takes kCount more places into account, whose scores (−inf: none) and values the lane has. One of the warp's
// scores is finite.
template <int kWidth, int kCount>
__device__ void add_places(StepSums& sums, const float (&score)[kCount], const uint4 (&value)[kCount]) {
  float largest = sums.largest;
#pragma unroll
  for (int i = 0; i < kCount; ++i) largest = fmaxf(largest, score[i]);
#pragma unroll
  for (int offset = StepLanes<kWidth>::kPerPlace; offset < kWarpSize; offset *= 2)
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, offset));
  const float keep = exp2f(sums.largest - largest);
  sums.largest = largest;
  sums.weight *= keep;
#pragma unroll
  for (float& x : sums.sum.x) x *= keep;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float weight = exp2f(score[i] - largest);
    const Float8 v = to_values(value[i]);
    sums.weight += weight;
#pragma unroll
    for (int c = 0; c < kVectorWidth; ++c) sums.sum.x[c] = fmaf(weight, v.x[c], sums.sum.x[c]);
  }
}

// What the block hands on: the sums of its warps.
template <int kWidth, int kHeads>
struct StepShared {
  float largest[kHeads][kStepWarps];
  float weight[kHeads][kStepWarps];
  float sum[kHeads][kStepWarps][kWidth];
};

template <int kWidth, int kHeads>
__device__ void write_part(const AttentionStepParams& p, StepShared<kWidth, kHeads>& shared,
                           const StepSums (&sums)[kHeads], int64_t first_head_row) {
  using Lanes = StepLanes<kWidth>;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize,
            warp = static_cast<int>(threadIdx.x) / kWarpSize;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    StepSums own = sums[h];
#pragma unroll
    for (int offset = Lanes::kPerPlace; offset < kWarpSize; offset *= 2) {
      own.weight += __shfl_xor_sync(0xffffffffu, own.weight, offset);
#pragma unroll
      for (float& x : own.sum.x) x += __shfl_xor_sync(0xffffffffu, x, offset);
    }
    if (lane < Lanes::kPerPlace) store_vector(&shared.sum[h][warp][lane * kVectorWidth], own.sum);
    shared.largest[h][warp] = own.largest;
    shared.weight[h][warp] = own.weight;
  }
  __syncthreads();
  const int64_t parts = int64_t{p.batch} * p.heads * p.splits;
  for (int i = static_cast<int>(threadIdx.x); i < kHeads * kWidth; i += kStepThreads) {
    const int h = i / kWidth, channel = i % kWidth;
    float largest = -INFINITY, weight = 0, sum = 0;
#pragma unroll
    for (int w = 0; w < kStepWarps; ++w) largest = fmaxf(largest, shared.largest[h][w]);
#pragma unroll
    for (int w = 0; w < kStepWarps; ++w) {
      const float share = shared.largest[h][w] == -INFINITY ? 0.f : exp2f(shared.largest[h][w] - largest);
      weight = fmaf(share, shared.weight[h][w], weight);
      sum = fmaf(share, shared.sum[h][w][channel], sum);
    }
    const int64_t part = (first_head_row + h) * p.splits + blockIdx.x;
    p.partial[part * kWidth + channel] = sum;
    if (channel == 0)
      reinterpret_cast<float2*>(p.partial + parts * kWidth)[part] = make_float2(largest, weight);
  }
}

// Grid [splits, H / kHeads, B]. The first part also takes the new token, from `packed`, and puts it into the
// cache.
template <int kWidth, int kHeads>
__global__ void __launch_bounds__(kStepThreads) attention_step_kernel(const AttentionStepParams p) {
  using Lanes = StepLanes<kWidth>;
  __shared__ __align__(16) StepShared<kWidth, kHeads> shared;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize,
            warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int channel = lane % Lanes::kPerPlace * kVectorWidth, sub = lane / Lanes::kPerPlace;
  const int first_head = static_cast<int>(blockIdx.y) * kHeads, repeat = p.heads / p.kv_heads;
  const int group = first_head / repeat;
  const int64_t b = blockIdx.z, position = p.positions[b];
  if (position < 0 || position >= p.capacity || (p.rope_cos && position >= p.rope_rows)) __trap();

  const auto* const packed = static_cast<const __nv_bfloat16*>(p.packed) + b * p.packed_row_stride;
  const int64_t cache = (b * p.kv_heads + group) * p.capacity * kWidth + channel;
  auto* const keys = static_cast<__nv_bfloat16*>(p.keys) + cache;
  auto* const values = static_cast<__nv_bfloat16*>(p.values) + cache;
  constexpr float kLog2e = 1.4426950408889634f;
  const float scale = kLog2e * rsqrtf(static_cast<float>(kWidth));
  Float8 q[kHeads];
  StepSums sums[kHeads];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    q[h] = rotated_channels<kWidth>(p, packed + (first_head + h) * kWidth, channel, position);
#pragma unroll
    for (float& x : q[h].x) x *= scale;
  }

  const int64_t tiles = (position + Lanes::kTile - 1) / Lanes::kTile;
  const int64_t share = (tiles + p.splits - 1) / p.splits * Lanes::kTile;
  const int64_t begin = blockIdx.x * share, end = begin + share < position ? begin + share : position;
  for (int64_t first = begin + warp * Lanes::kTile; first < end; first += kStepWarps * Lanes::kTile) {
    uint4 k[kStepLoads], v[kStepLoads];
#pragma unroll
    for (int i = 0; i < kStepLoads; ++i) {
      const int64_t place = first + i * Lanes::kPlaces + sub;
      const int64_t at = (place < end ? place : end - 1) * kWidth;
      k[i] = load_bits(keys + at);
      v[i] = load_bits(values + at);
    }
    float score[kHeads][kStepLoads];
#pragma unroll
    for (int i = 0; i < kStepLoads; ++i) {
      const Float8 key = to_values(k[i]);
      const bool seen = first + i * Lanes::kPlaces + sub < end;
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        const float s = dot<kWidth>(q[h], key);
        score[h][i] = seen ? s : -INFINITY;
      }
    }
#pragma unroll
    for (int h = 0; h < kHeads; ++h) add_places<kWidth>(sums[h], score[h], v);
  }

  if (blockIdx.x == 0 && warp == 0) {
    const __nv_bfloat16* const own = packed + (p.heads + group) * kWidth;
    const Float8 key = rotated_channels<kWidth>(p, own, channel, position);
    const uint4 value[1] = {load_bits(own + p.kv_heads * kWidth + channel)};
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const float s = dot<kWidth>(q[h], key);
      const float score[1] = {sub == 0 ? s : -INFINITY};
      add_places<kWidth>(sums[h], score, value);
    }
    if (sub == 0 && first_head % repeat == 0) {
      store_vector(keys + position * kWidth, key);
      *reinterpret_cast<uint4*>(values + position * kWidth) = value[0];
    }
  }
  write_part<kWidth, kHeads>(p, shared, sums, b * p.heads + first_head);
}

// Grid [H, B], a thread a channel.
template <int kWidth>
__global__ void __launch_bounds__(kWidth) attention_step_sum_kernel(const AttentionStepParams p) {
  const int64_t row = int64_t{blockIdx.y} * p.heads + blockIdx.x, first = row * p.splits;
  const int64_t parts = int64_t{p.batch} * p.heads * p.splits;
  const auto* const stats = reinterpret_cast<const float2*>(p.partial + parts * kWidth) + first;
  const float* const sums = p.partial + first * kWidth + threadIdx.x;
  float largest = -INFINITY, weight = 0, sum = 0;
  for (int s = 0; s < p.splits; ++s) largest = fmaxf(largest, stats[s].x);
  for (int s = 0; s < p.splits; ++s) {
    const float share = exp2f(stats[s].x - largest);  // 0 for a part without keys: the first always has one
    weight = fmaf(share, stats[s].y, weight);
    sum = fmaf(share, sums[s * kWidth], sum);
  }
  static_cast<__nv_bfloat16*>(p.out)[row * kWidth + threadIdx.x] = __float2bfloat16(sum / weight);
}

}  // namespace transxssm::kernels
