// Cross-entropy, host side.
#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/cross_entropy/kernel.cuh"
#include "csrc_cuda/cross_entropy/launch_cluster.h"

namespace transxssm::kernels {

void cross_entropy(const CrossEntropyParams& p, CUstream_st* stream) {
  if (p.rows == 0) return;
  expect(is_vector_aligned(p.logits_bf16) && p.row_stride % kLogitsAlignment == 0 &&
             p.row_stride >= p.vocabulary,
         concat("cross_entropy: rows of ", p.vocabulary, " logits ", p.row_stride,
                " apart do not start at multiples of 16 bytes"));
  const int64_t vectors = p.row_stride / kVectorWidth;
  if (vectors > kBlockVectors && has_clusters()) return cross_entropy_clusters(p, stream);
  launch("cross_entropy", cross_entropy_kernel<OneBlock>,
         {static_cast<unsigned>(p.rows), kCrossEntropyThreads, 0, stream}, p);
}

void cross_entropy_sum(const CrossEntropySumParams& p, CUstream_st* stream) {
  constexpr int kThreads = 1024;
  launch("cross_entropy_sum", cross_entropy_sum_kernel<kThreads>, {1, kThreads, 0, stream}, p);
}

}  // namespace transxssm::kernels
