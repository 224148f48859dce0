// How the rows of a norm are spread over threads, and sums along and across them.
#pragma once

#include <cstdint>

#include "csrc_cuda/common/reduce.cuh"
#include "csrc_cuda/common/vec_io.cuh"

namespace transxssm::kernels {

// kRowThreads threads share a row, kVectors vectors of eight columns each; a block takes kRows rows at a
// time.
template <int kRowThreads_, int kVectors_>
struct RowLayout {
  static constexpr int kRowThreads = kRowThreads_, kVectors = kVectors_;
  static constexpr int kThreads = kRowThreads < 128 ? 128 : kRowThreads;
  static constexpr int kRows = kThreads / kRowThreads;
  static constexpr int kWidth = kRowThreads * kVectors * kVectorWidth;  // columns at most

  __device__ static int row() { return static_cast<int>(threadIdx.x) / kRowThreads; }  // in the block
  __device__ static int column(int vector) {
    return (static_cast<int>(threadIdx.x) % kRowThreads + vector * kRowThreads) * kVectorWidth;
  }
};

// Calls run(layout) with the layout for rows of `d` columns.
template <class Run>
void for_row_layout(int d, Run&& run) {
  if (d <= 128) return run(RowLayout<16, 1>{});
  if (d <= 512) return run(RowLayout<64, 1>{});
  if (d <= 1024) return run(RowLayout<128, 1>{});
  if (d <= 2048) return run(RowLayout<256, 1>{});
  if (d <= 4096) return run(RowLayout<256, 2>{});
  run(RowLayout<256, 4>{});
}

// Sums over the threads of a row, the same in all of them. Every thread of the block calls it.
template <class Layout>
class RowSum {
 public:
  __device__ float operator()(float value) {
    constexpr int kLanes = Layout::kRowThreads < kWarpSize ? Layout::kRowThreads : kWarpSize;
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2)
      value += __shfl_xor_sync(0xffffffffu, value, offset);
    if constexpr (Layout::kRowThreads > kWarpSize) {
      // Two buffers in turn: when one is written again, all threads have passed the barrier after its reads.
      __shared__ float of_warp[2][Layout::kThreads / kWarpSize];
      constexpr int kWarps = Layout::kRowThreads / kWarpSize;
      if (threadIdx.x % kWarpSize == 0) of_warp[turn_][threadIdx.x / kWarpSize] = value;
      __syncthreads();
      value = 0;
#pragma unroll
      for (int warp = 0; warp < kWarps; ++warp) value += of_warp[turn_][Layout::row() * kWarps + warp];
      turn_ ^= 1;
    }
    return value;
  }

 private:
  int turn_ = 0;
};

// A vector of parameters, the columns of this thread.
template <class Layout>
struct RowVector {
  Float8 of[Layout::kVectors];

  __device__ static RowVector filled(float value) {
    RowVector v;
#pragma unroll
    for (Float8& part : v.of)
#pragma unroll
      for (float& x : part.x) x = value;
    return v;
  }

  // `absent` where there is no pointer.
  __device__ static RowVector loaded(const float* p, int d, float absent) {
    RowVector v = filled(absent);
    if (p == nullptr) return v;
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i)
      if (Layout::column(i) < d) v.of[i] = load_vector(p + Layout::column(i));
    return v;
  }
};

// Writes the block's sums over its rows to [gridDim.x, d]. Every thread of the block calls it.
template <class Layout>
__device__ void write_partial_sums(const RowVector<Layout>& sums, float* partial, int d) {
  float* out = partial + int64_t{blockIdx.x} * d;
  if constexpr (Layout::kRows == 1) {
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i)
      if (Layout::column(i) < d) store_vector(out + Layout::column(i), sums.of[i]);
  } else {
    static_assert(Layout::kVectors == 1);
    __shared__ float of_row[Layout::kRows][Layout::kWidth];
    __syncthreads();  // a second call finds the first one's reads done
    store_vector(of_row[Layout::row()] + Layout::column(0), sums.of[0]);
    __syncthreads();
    for (int column = threadIdx.x; column < d; column += Layout::kThreads) {
      float sum = of_row[0][column];
#pragma unroll
      for (int row = 1; row < Layout::kRows; ++row) sum += of_row[row][column];
      out[column] = sum;
    }
  }
}

}  // namespace transxssm::kernels
