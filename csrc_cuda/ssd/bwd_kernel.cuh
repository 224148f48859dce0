// The backward scan's two kernels. Apart, because ptxas orders the products of one kernel with both roles one
// by one. The second starts as soon as every block of the first has: the first is the longer one where both
// run side by side, and each then finds the other's tiles in the cache. Their code shares a cache too, and
// more of it than that holds costs a fifth of the time: two warpgroups with much the same to do run the same
// instructions.
#pragma once

#include "csrc_cuda/ssd/bwd_reverse.cuh"
#include "csrc_cuda/ssd/bwd_spans.cuh"

namespace transxssm::kernels {

// Registers: 512 threads on a multiprocessor have 128 each to begin with.
// Grid: H, B, segments.
inline constexpr int kReverseThreads = 512;

__global__ void __launch_bounds__(kReverseThreads, 1)
    ssd_reverse_kernel(const SsdBackwardParams p, const __grid_constant__ SsdBackwardMaps maps) {
  sm90::let_next_grid_start();
  extern __shared__ __align__(1024) unsigned char memory[];
  auto& shared = *reinterpret_cast<SsdReverseShared*>(memory);
  if (threadIdx.x == 0) {
    shared.init();
    sm90::fence_mbarrier_init();
  }
  __syncthreads();
  const int warpgroup = warpgroup_index();
  if (warpgroup < 2) {
    sm90::raise_registers<184>();
    ReverseScan(p, maps, SsdBlock::current(p.in), shared, warpgroup).run();
  } else {
    sm90::lower_registers<72>();
    ReverseHelper(p, SsdBlock::current(p.in), shared, static_cast<int>(threadIdx.x) - 256).run(maps);
  }
}

// Grid: H, B, blocks of a row's spans. The last block stays until the reverse kernel has ended, so that what
// comes after this kernel comes after both.
inline constexpr int kSpanThreads = 512;

__global__ void __launch_bounds__(kSpanThreads, 1)
    ssd_spans_kernel(const SsdBackwardParams p, const __grid_constant__ SsdBackwardMaps maps) {
  extern __shared__ __align__(1024) unsigned char memory[];
  auto& shared = *reinterpret_cast<SsdSpanShared*>(memory);
  if (threadIdx.x == 0) {
    shared.init();
    sm90::fence_mbarrier_init();
  }
  __syncthreads();
  const int warpgroup = warpgroup_index();
  if (warpgroup < 2) {
    sm90::raise_registers<176>();
    SpanScan(p, maps, shared, warpgroup).run();
  } else {
    sm90::lower_registers<80>();
    run_span_loaders(p, maps, shared, static_cast<int>(threadIdx.x) - 256);
  }
  if (blockIdx.x + 1 == gridDim.x && blockIdx.y + 1 == gridDim.y && blockIdx.z + 1 == gridDim.z)
    sm90::wait_for_grid_before();
}

}  // namespace transxssm::kernels
