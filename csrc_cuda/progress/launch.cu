// Launchers of mark_progress and mark_time.
#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/progress/kernel.cuh"

namespace transxssm::kernels {

void mark_progress(const ProgressParams& params, CUstream_st* stream) {
  launch("mark_progress", mark_progress_kernel, {1, 1, 0, stream}, params);
}

void mark_time(const TimeParams& params, CUstream_st* stream) {
  launch("mark_time", mark_time_kernel, {1, 1, 0, stream}, params);
}

}  // namespace transxssm::kernels
