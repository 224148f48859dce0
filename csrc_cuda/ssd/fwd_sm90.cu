// The forward scan, host side.
#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/ssd/fwd_kernel.cuh"
#include "csrc_cuda/ssd/tensor_maps.h"

namespace transxssm::kernels {
namespace {

SsdForwardMaps make_maps(const SsdForwardParams& p) {
  SsdForwardMaps maps{};
  maps.packed = packed_map(p.in);
  maps.y = by_head_map("ssd y", p.y, p.in);
  if (p.saved_states) maps.saved = states_map(p.saved_states, p.in);
  return maps;
}

template <int kParts>
void launch_forward(const SsdForwardParams& p, CUstream_st* stream) {
  const dim3 grid(static_cast<unsigned>(p.in.heads * (2 / kParts)), static_cast<unsigned>(p.in.batch),
                  static_cast<unsigned>(p.in.segments));
  launch("ssd_forward", ssd_forward_kernel<kParts>,
         {grid, SsdForwardShared<kParts>::kThreads, sizeof(SsdForwardShared<kParts>), stream}, p,
         make_maps(p));
}

}  // namespace

bool ssd_has_kernels() { return true; }

void ssd_forward(const SsdForwardParams& p, CUstream_st* stream) {
  // Two blocks share a head's columns where there are too few heads to fill the GPU.
  const int kBlocksThatFill = 100;
  if (p.in.batch * p.in.heads * p.in.segments < kBlocksThatFill)
    launch_forward<1>(p, stream);
  else
    launch_forward<2>(p, stream);
}

}  // namespace transxssm::kernels
