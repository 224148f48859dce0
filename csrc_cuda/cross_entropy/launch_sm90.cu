// Cross-entropy of long rows, host side.
#include <algorithm>

#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/cross_entropy/cluster.cuh"
#include "csrc_cuda/cross_entropy/launch_cluster.h"

namespace transxssm::kernels {

bool has_clusters() {
  int device = 0, major = 0, minor = 0;
  check_cuda(cudaGetDevice(&device), "cross_entropy");
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cross_entropy");
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "cross_entropy");
  return major == 9 && minor == 0;
}

void cross_entropy_clusters(const CrossEntropyParams& p, CUstream_st* stream) {
  const int64_t blocks = std::min<int64_t>(BlockCluster::kMaxBlocks,
                                           (p.row_stride / kVectorWidth + kBlockVectors - 1) / kBlockVectors);
  launch("cross_entropy", cross_entropy_kernel<BlockCluster>,
         {static_cast<unsigned>(p.rows * blocks), kCrossEntropyThreads, 0, stream,
          static_cast<unsigned>(blocks)},
         p);
}

}  // namespace transxssm::kernels
