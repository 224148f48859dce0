// RMSNorm of y ⊙ silu(z), host side.
#include "csrc_cuda/common/column_sums.h"
#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/rms_norm/gated_kernel.cuh"

namespace transxssm::kernels {
namespace {

template <class Run>
void for_gated_layout(int d, Run&& run) {
  expect(d <= kMaxGatedNormWidth,
         concat("gated_rms_norm: at most ", kMaxGatedNormWidth, " columns, got ", d));
  for_row_layout(d, [&]<class Layout>(Layout layout) {
    if constexpr (Layout::kWidth <= kMaxGatedNormWidth) run(layout);
  });
}

}  // namespace

void gated_rms_norm_forward(const GatedRmsNormForwardParams& p, CUstream_st* stream) {
  if (p.rows == 0) return;
  for_gated_layout(p.d, [&]<class Layout>(Layout) {
    const int64_t row_groups = (p.rows + Layout::kRows - 1) / Layout::kRows;
    const unsigned blocks =
        grid_stride_blocks(row_groups, 1, kGatedForwardBlocksPerSm<Layout>, "gated_rms_norm_forward");
    launch("gated_rms_norm_forward", gated_rms_norm_fwd_kernel<Layout>, {blocks, Layout::kThreads, 0, stream},
           p);
  });
}

void gated_rms_norm_backward(const GatedRmsNormBackwardParams& p, CUstream_st* stream) {
  if (p.rows == 0) return;
  const int64_t parts = gated_norm_parts(p.rows, p.d);
  for_gated_layout(p.d, [&]<class Layout>(Layout) {
    launch("gated_rms_norm_backward", gated_rms_norm_bwd_kernel<Layout>,
           {static_cast<unsigned>(parts), Layout::kThreads, 0, stream}, p);
  });
  add_column_sums("gated_rms_norm_backward sums", {{{p.partial_sums, p.dw, p.d}, {}}, parts}, stream);
}

}  // namespace transxssm::kernels
