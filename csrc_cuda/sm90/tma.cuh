// Bulk tensor copies between global and shared memory (PTX ISA "cp.async.bulk.tensor"). A tile is 64 rows of
// 64 bf16 values in the 128-byte swizzle of swizzle.cuh: 8 KB.
#pragma once

#include <cuda.h>

#include "csrc_cuda/sm90/mbarrier.cuh"

namespace transxssm::kernels::sm90 {

__device__ inline void prefetch_tensor_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// Loads the tile at (column, row, batch); rows and columns outside the tensor become 0. One thread.
__device__ inline void load_tile(void* tile, const CUtensorMap* map, Mbarrier* full, int column, int row,
                                 int batch) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, "
      "%5}], "
      "[%2];" ::"r"(shared_address(tile)),
      "l"(map), "r"(shared_address(full)), "r"(column), "r"(row), "r"(batch)
      : "memory");
}

// Stores a tile; what lies outside the tensor is left out. The storing thread commits and waits.
__device__ inline void store_tile(const CUtensorMap* map, const void* tile, int column, int row, int batch) {
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(map),
      "r"(shared_address(tile)), "r"(column), "r"(row), "r"(batch)
      : "memory");
}
__device__ inline void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Until at most kPending of this thread's store groups still read shared memory.
template <int kPending = 0>
__device__ void wait_stores_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}

}  // namespace transxssm::kernels::sm90
