// The one way to call CUDA from host code: launches and runtime calls whose status is checked.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <cuda_runtime.h>

#include "core/check.h"

namespace transxssm::kernels {

// Throws with `what` and CUDA's own words.
inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess)
    throw std::runtime_error(
        concat(what, ": ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")"));
}

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t smem_bytes;  // dynamic shared memory
  cudaStream_t stream;
  unsigned cluster = 1;  // blocks, along x
  bool overlaps =
      false;  // may start when the kernel before lets it (griddepcontrol), not when that has ended
};

// Queues `kernel`; throws when the launch is refused. A fault inside the kernel shows at a later call.
template <class... Params, class... Args>
void launch(const char* name, void (*kernel)(Params...), const LaunchShape& shape, Args&&... args) {
  constexpr size_t kFreeSharedMemory = 48 * 1024;  // beyond this a kernel has to opt in
  if (shape.smem_bytes > kFreeSharedMemory)
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shape.smem_bytes)),
               name);
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.smem_bytes;
  config.stream = shape.stream;
  cudaLaunchAttribute attributes[2] = {};
  config.attrs = attributes;
  if (shape.cluster > 1) {
    cudaLaunchAttribute& cluster = attributes[config.numAttrs++];
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {shape.cluster, 1, 1};
  }
  if (shape.overlaps) {
    cudaLaunchAttribute& overlap = attributes[config.numAttrs++];
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
  }
  check_cuda(cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...), name);
}

// Blocks for a grid-stride loop over `items`: enough to fill the current device, none without work.
inline unsigned grid_stride_blocks(int64_t items, int threads, int blocks_per_sm, const char* name) {
  int device = 0;
  int sm_count = 0;
  check_cuda(cudaGetDevice(&device), name);
  check_cuda(cudaDeviceGetAttribute(&sm_count, cudaDevAttrMultiProcessorCount, device), name);
  const int64_t wanted = (items + threads - 1) / threads;
  return static_cast<unsigned>(std::clamp<int64_t>(wanted, 1, int64_t{sm_count} * blocks_per_sm));
}

}  // namespace transxssm::kernels
