// RMSNorm forward, host side.
#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/rms_norm/fwd_kernel.cuh"

namespace transxssm::kernels {

void rms_norm_forward(const RmsNormForwardParams& p, CUstream_st* stream) {
  if (p.rows == 0) return;
  for_row_layout(p.d, [&]<class Layout>(Layout) {
    const int64_t row_groups = (p.rows + Layout::kRows - 1) / Layout::kRows;
    const unsigned blocks =
        grid_stride_blocks(row_groups, 1, kForwardBlocksPerSm<Layout>, "rms_norm_forward");
    const LaunchShape shape{blocks, Layout::kThreads, 0, stream};
    if (p.branch != nullptr)
      launch("rms_norm_forward", rms_norm_fwd_kernel<Layout, true>, shape, p);
    else
      launch("rms_norm_forward", rms_norm_fwd_kernel<Layout, false>, shape, p);
  });
}

}  // namespace transxssm::kernels
