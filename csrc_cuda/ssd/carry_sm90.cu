// What segments hand to each other, host side.
#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/ssd/carry_kernel.cuh"
#include "csrc_cuda/ssd/tensor_maps.h"

namespace transxssm::kernels {
namespace {

template <bool kBackward>
void launch_carry(const SsdCarryParams& p, CUstream_st* stream) {
  const SsdInputs& in = p.in;
  SsdCarryMaps maps{};
  maps.packed = packed_map(in);
  if (kBackward) maps.dy = by_head_map("ssd dy", p.dy, in);
  const auto heads = static_cast<unsigned>(in.heads), batch = static_cast<unsigned>(in.batch);
  launch("ssd_carry", ssd_carry_kernel<kBackward>,
         {{heads, batch, static_cast<unsigned>(in.segments - 1)},
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
