// What segments hand to each other, host side.
#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/sm90/tensor_map.h"
#include "csrc_cuda/ssd/carry_kernel.cuh"

namespace transxssm::kernels {
namespace {

template <bool kBackward>
void launch_carry(const SsdCarryParams& p, CUstream_st* stream) {
  const SsdInputs& in = p.in;
  SsdCarryMaps maps{};
  maps.packed = sm90::make_tensor_map("ssd packed", {in.packed, in.packed_columns, in.tokens, in.batch,
                                                     in.packed_row_stride, in.packed_batch_stride});
  const int64_t width = int64_t{in.heads} * kSsdWidth;
  if (kBackward)
    maps.dy = sm90::make_tensor_map("ssd dy", {p.dy, width, in.tokens, in.batch, width, width * in.tokens});
  const auto heads = static_cast<unsigned>(in.heads), batch = static_cast<unsigned>(in.batch);
  launch("ssd_carry", ssd_carry_kernel<kBackward>,
         {{heads, batch, static_cast<unsigned>(in.segments)},
          SsdCarryShared::kThreads,
          sizeof(SsdCarryShared),
          stream},
         p, maps);
  constexpr unsigned kThreads = 256;
  launch("ssd_chain", ssd_chain_kernel<kBackward>,
         {{kSsdWidth * kSsdWidth / 2 / kThreads, heads, batch}, kThreads, 0, stream}, p);
}

}  // namespace

void ssd_carry(const SsdCarryParams& p, CUstream_st* stream) {
  if (p.dy)
    launch_carry<true>(p, stream);
  else
    launch_carry<false>(p, stream);
}

}  // namespace transxssm::kernels
