// RMSNorm backward, host side.
#include "csrc_cuda/common/column_sums.h"
#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/rms_norm/bwd_kernel.cuh"

namespace transxssm::kernels {

void rms_norm_backward(const RmsNormBackwardParams& p, CUstream_st* stream) {
  if (p.rows == 0) return;
  const int64_t parts = norm_parts(p.rows, p.d);
  for_row_layout(p.d, [&]<class Layout>(Layout) {
    const LaunchShape shape{static_cast<unsigned>(parts), Layout::kThreads, 0, stream};
    if (p.r != nullptr)
      launch("rms_norm_backward", rms_norm_bwd_kernel<Layout, true>, shape, p);
    else
      launch("rms_norm_backward", rms_norm_bwd_kernel<Layout, false>, shape, p);
  });
  const float* dr_partial = p.partial_sums + parts * p.d;
  add_column_sums("rms_norm_backward sums",
                  {{{p.partial_sums, p.dw, p.d}, {dr_partial, p.r != nullptr ? p.dr : nullptr, p.d}}, parts},
                  stream);
}

}  // namespace transxssm::kernels
