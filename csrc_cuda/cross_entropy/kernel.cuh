// Cross-entropy, device code: a row of logits is read from memory once, kept in registers while its sum of
// exponentials is formed, and overwritten by its gradient.
#pragma once

#include <cfloat>
#include <cmath>

#include <cuda_bf16.h>

#include "csrc_cuda/common/reduce.cuh"
#include "csrc_cuda/common/vec_io.cuh"
#include "csrc_cuda/cross_entropy/params.h"

namespace transxssm::kernels {

inline constexpr int kCrossEntropyThreads = 512;
inline constexpr int kRowRegisters = 8;  // vectors of 8 logits that a thread keeps
inline constexpr int kBlockVectors = kCrossEntropyThreads * kRowRegisters;  // 32768 logits
inline constexpr float kLog2E = 1.4426950408889634f;

// m = max(x), s = Σ exp(x − m). m starts at the lowest finite value: −∞ − −∞ would be NaN.
struct MaxSum {
  float m = -FLT_MAX;
  float s = 0;
};

__device__ inline float exp_of_difference(float x, float m) {
  // The difference of bf16 values is nearly exact; x·log₂e − m·log₂e of logits of several hundred is not.
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"((x - m) * kLog2E));
  return y;
}

__device__ inline MaxSum combine_over_warp(MaxSum mine) {
  float m = mine.m;
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2)
    m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, offset));
  return {m, warp_sum(mine.s * exp_of_difference(mine.m, m))};
}

// Eight logits as they lie in memory. Three passes unpack them, each anew: `volatile` keeps the compiler from
// holding the unpacked values in registers that there are not.
struct LogitVector {
  uint32_t words[kVectorWidth / 2];

  __device__ float low(int i) const {
    float x;
    asm volatile("shl.b32 %0, %1, 16;" : "=f"(x) : "r"(words[i]));
    return x;
  }
  __device__ float high(int i) const {
    float x;
    asm volatile("and.b32 %0, %1, 0xffff0000;" : "=f"(x) : "r"(words[i]));
    return x;
  }
  __device__ float max() const {
    const auto pair = [&](int i) { return *reinterpret_cast<const __nv_bfloat162*>(words + i); };
    const __nv_bfloat162 m = __hmax2(__hmax2(pair(0), pair(1)), __hmax2(pair(2), pair(3)));
    return fmaxf(__low2float(m), __high2float(m));
  }
  __device__ float sum_of_exp(float m) const {
    float s = 0;
#pragma unroll
    for (int i = 0; i < kVectorWidth / 2; ++i)
      s += exp_of_difference(low(i), m) + exp_of_difference(high(i), m);
    return s;
  }
};

// A block's share of a row: vectors [first, end), strided over the threads, and in the last block the logits
// behind the row's last whole vector, one to a thread.
struct RowSlice {
  __nv_bfloat16* row;
  int first, end;
  int single;  // this thread's logit behind the vectors, −1 without one

  __device__ uint4* vectors() const { return reinterpret_cast<uint4*>(row); }
  __device__ LogitVector load(int v) const {
    constexpr uint32_t kMinusInfinities = 0xff80ff80u;
    if (v >= end) return {{kMinusInfinities, kMinusInfinities, kMinusInfinities, kMinusInfinities}};
    const uint4 x = vectors()[v];
    return {{x.x, x.y, x.z, x.w}};
  }
  __device__ float load_single() const { return single < 0 ? -INFINITY : __bfloat162float(row[single]); }
};

__device__ inline RowSlice slice_of(const CrossEntropyParams& p, int64_t row, int rank, int blocks) {
  const int vectors = static_cast<int>(p.vocabulary / kVectorWidth);
  const int share = (vectors + blocks - 1) / blocks;
  const int behind = vectors * kVectorWidth + static_cast<int>(threadIdx.x);
  return {static_cast<__nv_bfloat16*>(p.logits_bf16) + row * p.row_stride, min(rank * share, vectors),
          min((rank + 1) * share, vectors), rank == blocks - 1 && behind < p.vocabulary ? behind : -1};
}

// What all elements of a row share in its gradient: exp(x − m) · of_exp − onehot(label) · of_label.
struct RowGradient {
  float m, of_exp, of_label;
  int label;

  __device__ void store(const RowSlice& slice, int v, const LogitVector& logits) const {
    Float8 g;
#pragma unroll
    for (int i = 0; i < kVectorWidth / 2; ++i) {
      g.x[2 * i] = exp_of_difference(logits.low(i), m) * of_exp;
      g.x[2 * i + 1] = exp_of_difference(logits.high(i), m) * of_exp;
    }
    if (v == label / kVectorWidth) {
#pragma unroll
      for (int i = 0; i < kVectorWidth; ++i)
        if (i == label % kVectorWidth) g.x[i] -= of_label;
    }
    store_vector(slice.row + v * kVectorWidth, g);
  }
  __device__ void store_single(const RowSlice& slice, float x) const {
    if (slice.single < 0) return;
    const float at_label = slice.single == label ? of_label : 0.f;
    slice.row[slice.single] = __float2bfloat16_rn(exp_of_difference(x, m) * of_exp - at_label);
  }
};

inline constexpr int kRowWarps = kCrossEntropyThreads / kWarpSize;

// The blocks that share a row: this one alone. cross_entropy/cluster.cuh has the same for several.
struct OneBlock {
  static constexpr int kMaxBlocks = 1;
  __device__ static int rank() { return 0; }
  __device__ static int blocks() { return 1; }
  __device__ static void arrive() {}
  // Every warp gives its part to all blocks.
  __device__ static void exchange(MaxSum* parts, const MaxSum& mine, int warp, int lane) {
    if (lane == 0) parts[warp] = mine;
    __syncthreads();
  }
};

// Over all threads of a row, the same in each of them.
template <class Blocks>
__device__ MaxSum combine_over_row(MaxSum mine) {
  __shared__ MaxSum parts[Blocks::kMaxBlocks * kRowWarps];
  const int lane = threadIdx.x % kWarpSize;
  Blocks::exchange(parts, combine_over_warp(mine), threadIdx.x / kWarpSize, lane);
  MaxSum all;
  for (int i = lane; i < Blocks::blocks() * kRowWarps; i += kWarpSize) {
    const float m = fmaxf(all.m, parts[i].m);
    all.s = all.s * exp_of_difference(all.m, m) + parts[i].s * exp_of_difference(parts[i].m, m);
    all.m = m;
  }
  return combine_over_warp(all);
}

__device__ inline void zero_row(const RowSlice& slice) {
  for (int v = slice.first + threadIdx.x; v < slice.end; v += kCrossEntropyThreads)
    slice.vectors()[v] = make_uint4(0, 0, 0, 0);
  if (slice.single >= 0) slice.row[slice.single] = __float2bfloat16_rn(0.f);
}

// Grid: rows × blocks that share a row. What doesn't fit into their registers is read a second time.
template <class Blocks>
__global__ void __launch_bounds__(kCrossEntropyThreads, 2) cross_entropy_kernel(const CrossEntropyParams p) {
  const int64_t row = blockIdx.x / Blocks::blocks();
  const RowSlice slice = slice_of(p, row, Blocks::rank(), Blocks::blocks());
  const int64_t label = p.labels[row];
  const bool reports = Blocks::rank() == 0 && threadIdx.x == 0;
  if (label < 0) {
    if (p.gradient) zero_row(slice);
    if (reports) p.losses[row] = p.objectives[row] = 0;
    return;
  }
  Blocks::arrive();

  const int begin = slice.first + threadIdx.x;
  LogitVector kept[kRowRegisters];
#pragma unroll
  for (int i = 0; i < kRowRegisters; ++i) kept[i] = slice.load(begin + i * kCrossEntropyThreads);
  const float single = slice.load_single();
  // Before any block overwrites it. A label beyond the vocabulary gives NaN, which stops the training.
  float target = NAN;
  if (reports && label < p.vocabulary) target = __bfloat162float(slice.row[label]);

  MaxSum mine;
  mine.m = fmaxf(mine.m, single);
#pragma unroll
  for (int i = 0; i < kRowRegisters; ++i) mine.m = fmaxf(mine.m, kept[i].max());
  mine.s = exp_of_difference(single, mine.m);
#pragma unroll
  for (int i = 0; i < kRowRegisters; ++i) mine.s += kept[i].sum_of_exp(mine.m);
  for (int v = begin + kBlockVectors; v < slice.end; v += kCrossEntropyThreads) {
    const LogitVector x = slice.load(v);
    const float m = fmaxf(mine.m, x.max());
    mine.s = mine.s * exp_of_difference(mine.m, m) + x.sum_of_exp(m);
    mine.m = m;
  }

  const MaxSum all = combine_over_row<Blocks>(mine);
  const float log_sum = logf(all.s);
  const float log_z = all.m + log_sum;
  if (reports) {
    const float loss = (all.m - target) + log_sum;
    p.losses[row] = loss;
    p.objectives[row] = loss + p.z_loss * log_z * log_z;
  }
  if (!p.gradient) return;
  const float scale = p.scale == nullptr ? 1.f : *p.scale;
  const RowGradient gradient{all.m, scale * (1 + 2 * p.z_loss * log_z) / all.s, scale,
                             static_cast<int>(label)};
#pragma unroll
  for (int i = 0; i < kRowRegisters; ++i) {
    const int v = begin + i * kCrossEntropyThreads;
    if (v < slice.end) gradient.store(slice, v, kept[i]);
  }
  for (int v = begin + kBlockVectors; v < slice.end; v += kCrossEntropyThreads)
    gradient.store(slice, v, slice.load(v));
  gradient.store_single(slice, single);
}

// One block.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) cross_entropy_sum_kernel(const CrossEntropySumParams p) {
  double loss = 0, rest = 0;  // `rest`: of the objective
  for (int64_t i = threadIdx.x; i < p.rows; i += kThreads) {
    loss += p.losses[i];
    rest += double{p.objectives[i]} - p.losses[i];
  }
  loss = block_sum<kThreads>(loss);
  __syncthreads();
  rest = block_sum<kThreads>(rest);
  if (threadIdx.x != 0) return;
  const double scale = p.scale == nullptr ? 1.0 : double{*p.scale};
  *p.loss = static_cast<float>(scale * loss);
  *p.objective = static_cast<float>(scale * (loss + rest));
}

}  // namespace transxssm::kernels
