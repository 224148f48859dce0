// The backward scan's two kernels. Apart, because ptxas orders the products of one kernel with both roles one
// by one.
#pragma once

#include "csrc_cuda/ssd/bwd_reverse.cuh"
#include "csrc_cuda/ssd/bwd_spans.cuh"

namespace transxssm::kernels {

// Registers: 512 threads on a multiprocessor have 128 each to begin with.
// Grid: H, B, segments.
inline constexpr int kReverseThreads = 512;

__global__ void __launch_bounds__(kReverseThreads, 1)
    ssd_reverse_kernel(const SsdBackwardParams p, const __grid_constant__ SsdBackwardMaps maps) {
  extern __shared__ __align__(1024) unsigned char memory[];
  auto& shared = *reinterpret_cast<SsdReverseShared*>(memory);
  if (threadIdx.x == 0) {
    for (SsdStage& stage : shared.stage) stage.init(SsdReverseShared::kLoaderThreads, 12);
    shared.pairs_ready.init(128);
    shared.pairs_free.init(8);
    sm90::fence_mbarrier_init();
  }
  __syncthreads();
  switch (threadIdx.x / 128) {
    case 0:
      sm90::raise_registers<176>();
      return ReverseScan<true>(p, maps, SsdBlock::current(p.in), shared).run();
    case 1:
      sm90::raise_registers<176>();
      return ReverseScan<false>(p, maps, SsdBlock::current(p.in), shared).run();
    case 2:
      sm90::lower_registers<80>();
      return ReversePairs(p, SsdBlock::current(p.in), shared).run();
    default:
      sm90::lower_registers<80>();
      return run_reverse_loaders(p, maps, SsdBlock::current(p.in), shared);
  }
}

// Grid: H, B, segments · kSpanInterleave.
inline constexpr int kSpanThreads = 256;

__global__ void __launch_bounds__(kSpanThreads, 2)
    ssd_spans_kernel(const SsdBackwardParams p, const __grid_constant__ SsdBackwardMaps maps) {
  extern __shared__ __align__(1024) unsigned char memory[];
  auto& shared = *reinterpret_cast<SsdSpanShared*>(memory);
  if (threadIdx.x == 0) {
    shared.stage[0].init(SsdSpanShared::kLoaderThreads, 4);
    shared.state_loaded.init(1);
    sm90::fence_mbarrier_init();
  }
  __syncthreads();
  const int z = static_cast<int>(blockIdx.z);
  const SsdBlock block(p.in, static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x), z / kSpanInterleave);
  const SpanOrder order(block, z % kSpanInterleave);
  if (threadIdx.x < 128) {
    sm90::raise_registers<168>();
    SpanScan(p, maps, block, order, shared).run();
  } else {
    sm90::lower_registers<88>();
    run_span_loaders(p, maps, block, order, shared);
  }
}

}  // namespace transxssm::kernels
