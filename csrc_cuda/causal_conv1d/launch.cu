// Causal convolution, host side.
#include <algorithm>
#include <limits>
#include <type_traits>

#include "csrc_cuda/causal_conv1d/kernel.cuh"
#include "csrc_cuda/common/column_sums.h"
#include "csrc_cuda/common/launch.cuh"

namespace transxssm::kernels {
namespace {

LaunchShape launch_shape(const ConvShape& s, int64_t widest_stride, cudaStream_t stream) {
  // The kernels look up to kConvAhead + kMaxConvTaps tokens past a run.
  expect((s.tokens + kConvRun) * widest_stride <= std::numeric_limits<int32_t>::max(),
         concat("causal_conv1d: rows of at most 2^31 values expected, got ", s.tokens, " tokens of ",
                widest_stride));
  constexpr int64_t kOfBlock = kConvThreads * kConvColumns;
  return {{static_cast<unsigned>(s.parts()), static_cast<unsigned>((s.columns + kOfBlock - 1) / kOfBlock)},
          kConvBlock,
          0,
          stream};
}

// Calls run(std::integral_constant) with the number of taps.
template <class Run>
void for_taps(int taps, Run&& run) {
  if (taps == 2) return run(std::integral_constant<int, 2>{});
  if (taps == 3) return run(std::integral_constant<int, 3>{});
  expect(taps == kMaxConvTaps, concat("causal_conv1d: 2 to ", kMaxConvTaps, " taps expected, got ", taps));
  run(std::integral_constant<int, kMaxConvTaps>{});
}

}  // namespace

void causal_conv1d_forward(const CausalConv1dForwardParams& p, CUstream_st* stream) {
  if (p.shape.parts() == 0) return;
  for_taps(p.shape.taps, [&](auto taps) {
    launch("causal_conv1d_forward", causal_conv1d_fwd_kernel<taps()>,
           launch_shape(p.shape, std::max(p.x_stride, p.shape.columns), stream), p);
  });
}

void causal_conv1d_backward(const CausalConv1dBackwardParams& p, CUstream_st* stream) {
  const int64_t parts = p.shape.parts(), channels = p.shape.channels, weights = channels * p.shape.taps;
  if (parts == 0) return;
  for_taps(p.shape.taps, [&](auto taps) {
    launch("causal_conv1d_backward", causal_conv1d_bwd_kernel<taps()>,
           launch_shape(p.shape, std::max({p.x_stride, p.dx_stride, p.shape.columns}), stream), p);
  });
  add_column_sums(
      "causal_conv1d_backward sums",
      {{{p.partial_sums, p.dw, weights}, {p.partial_sums + parts * weights, p.dbias, channels}}, parts},
      stream);
}

}  // namespace transxssm::kernels
