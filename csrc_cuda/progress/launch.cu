// Launcher of mark_progress.
#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/progress/kernel.cuh"

namespace transxssm::kernels {

void mark_progress(const ProgressParams& params, CUstream_st* stream) {
  launch("mark_progress", mark_progress_kernel, {1, 1, 0, stream}, params);
}

}  // namespace transxssm::kernels
