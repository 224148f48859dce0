// A cluster of blocks as the sharers of a row (compute capability 9.0).
#pragma once

#include <cooperative_groups.h>

#include "csrc_cuda/cross_entropy/kernel.cuh"

namespace transxssm::kernels {

struct BlockCluster {
  static constexpr int kMaxBlocks = 8;  // the most that every GPU with clusters can place

  __device__ static int rank() { return static_cast<int>(cooperative_groups::this_cluster().block_rank()); }
  __device__ static int blocks() { return static_cast<int>(cooperative_groups::this_cluster().num_blocks()); }
  __device__ static void arrive() { cooperative_groups::this_cluster().barrier_arrive(); }
  __device__ static void exchange(MaxSum* parts, const MaxSum& mine, int warp, int lane) {
    const auto cluster = cooperative_groups::this_cluster();
    cluster.barrier_wait();  // all have arrived, so all have their shared memory
    if (lane < blocks()) cluster.map_shared_rank(parts, lane)[rank() * kRowWarps + warp] = mine;
    cluster.sync();
  }
};

}  // namespace transxssm::kernels
