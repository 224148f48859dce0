// The backward scan, host side.
#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/ssd/bwd_finish_kernel.cuh"
#include "csrc_cuda/ssd/bwd_kernel.cuh"
#include "csrc_cuda/ssd/tensor_maps.h"

namespace transxssm::kernels {
namespace {

// Up to so many blocks of the reverse kernel leave much of a GPU to the spans.
constexpr int kBlocksThatLeaveRoom = 100;

SsdBackwardMaps make_maps(const SsdBackwardParams& p) {
  const SsdInputs& in = p.in;
  SsdBackwardMaps maps{};
  maps.packed = packed_map(in);
  maps.dy = by_head_map("ssd dy", p.dy, in);
  maps.d_c =
      p.d_heads ? by_head_map("ssd dC", p.d_heads, in)
                : sm90::make_tensor_map("ssd d_packed", {p.d_packed, p.d_packed_columns, in.tokens, in.batch,
                                                         p.d_packed_columns, p.d_packed_columns * in.tokens});
  maps.saved = states_map(p.saved_states, in);
  return maps;
}

}  // namespace

void ssd_backward(const SsdBackwardParams& p, CUstream_st* stream) {
  const auto heads = static_cast<unsigned>(p.in.heads), batch = static_cast<unsigned>(p.in.batch);
  const auto segments = static_cast<unsigned>(p.in.segments);
  const SsdBackwardMaps maps = make_maps(p);
  launch("ssd_reverse", ssd_reverse_kernel,
         {{heads, batch, segments}, kReverseThreads, sizeof(SsdReverseShared), stream}, p, maps);
  const int64_t spans = ssd_spans(p.in.tokens);
  // Beside the reverse kernel short blocks, which keep step with it; after it long ones, which start less
  // often.
  const bool beside = p.in.batch * p.in.heads * p.in.segments <= kBlocksThatLeaveRoom;
  const int64_t spans_per_block = beside ? 2 : 4;
  const auto span_blocks = static_cast<unsigned>((spans + spans_per_block - 1) / spans_per_block);
  // Each waits inside for the one before, which saves the time between them.
  const auto launch_next = [&](const char* name, auto kernel, dim3 grid, int threads, size_t smem_bytes,
                               const auto&... args) {
    launch(name, kernel,
           {grid, static_cast<unsigned>(threads), smem_bytes, stream, /*cluster=*/1, /*overlaps=*/true},
           args...);
  };
  launch_next("ssd_spans", ssd_spans_kernel, {heads, batch, span_blocks}, kSpanThreads, sizeof(SsdSpanShared),
              p, maps);
  launch_next("ssd_backward_finish", ssd_backward_finish_kernel, {heads, batch, kSsdSumParts},
              32 * kFinishWarps, 0, p);
  launch_next("ssd_parameter_gradients", ssd_parameter_gradients_kernel, {heads, 3, 1}, kWarpSize, 0, p);
}

}  // namespace transxssm::kernels
