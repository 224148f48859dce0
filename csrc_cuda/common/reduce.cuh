// Sums over a thread block in a fixed order.
#pragma once

namespace transxssm::kernels {

inline constexpr int kWarpSize = 32;

// Sum over the warp, the same in every lane.
template <class T>
__device__ T warp_sum(T value) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

// Sum over a block of kThreads threads; valid in thread 0. Between two calls __syncthreads(): they share
// memory.
template <int kThreads>
__device__ double block_sum(double value) {
  static_assert(kThreads % kWarpSize == 0 && kThreads <= kWarpSize * kWarpSize);
  constexpr int kWarps = kThreads / kWarpSize;
  __shared__ double of_warp[kWarps];
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  value = warp_sum(value);
  if (lane == 0) of_warp[warp] = value;
  __syncthreads();
  return warp == 0 ? warp_sum(lane < kWarps ? of_warp[lane] : 0.0) : 0.0;
}

}  // namespace transxssm::kernels
