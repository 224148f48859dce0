// Sum of squares and norm, device code: f32 inside a thread, f64 from there on.
#pragma once

#include "csrc_cuda/common/reduce.cuh"
#include "csrc_cuda/common/vec_io.cuh"
#include "csrc_cuda/grad_norm/params.h"

namespace transxssm::kernels {

// Grid of kPartialSums blocks.
template <int kThreads, int kBlocksPerSm>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm) sum_squares_kernel(const SumSquaresParams p) {
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t vectors = p.n / kVectorWidth;
  float lanes[kVectorWidth] = {};  // one running sum per lane: independent chains, shorter sums
#pragma unroll 2
  for (int64_t i = thread; i < vectors; i += int64_t{kPartialSums} * kThreads) {
    const Float8 x = load_vector(p.x + i * kVectorWidth);
#pragma unroll
    for (int lane = 0; lane < kVectorWidth; ++lane) lanes[lane] += x.x[lane] * x.x[lane];
  }
  const int64_t rest = vectors * kVectorWidth + thread;
  if (rest < p.n) lanes[0] += p.x[rest] * p.x[rest];

  double sum = 0;
#pragma unroll
  for (int lane = 0; lane < kVectorWidth; ++lane) sum += lanes[lane];
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) p.partial_sums[blockIdx.x] = sum;
}

// One block.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) norm_of_partial_sums_kernel(const NormOfPartialSumsParams p) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < p.count; i += kThreads) sum += p.partial_sums[i];
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) *p.norm = static_cast<float>(sqrt(sum));
}

}  // namespace transxssm::kernels
