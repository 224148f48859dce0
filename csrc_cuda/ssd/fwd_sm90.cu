// The forward scan, host side.
#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/sm90/tensor_map.h"
#include "csrc_cuda/ssd/fwd_kernel.cuh"

namespace transxssm::kernels {
namespace {

SsdForwardMaps make_maps(const SsdForwardParams& p) {
  const SsdInputs& in = p.in;
  const int64_t width = int64_t{in.heads} * kSsdWidth;
  const int64_t states = ssd_spans(in.tokens);
  SsdForwardMaps maps{};
  maps.packed = sm90::make_tensor_map("ssd packed", {in.packed, in.packed_columns, in.tokens, in.batch,
                                                     in.packed_row_stride, in.packed_batch_stride});
  maps.y = sm90::make_tensor_map("ssd y", {p.y, width, in.tokens, in.batch, width, width * in.tokens});
  if (p.saved_states)
    maps.saved = sm90::make_tensor_map(
        "ssd states", {p.saved_states, kSsdWidth, states * kSsdWidth, int64_t{in.batch} * in.heads, kSsdWidth,
                       states * kSsdWidth * kSsdWidth});
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

bool ssd_runs_here() {
  int device = 0, major = 0, minor = 0;
  check_cuda(cudaGetDevice(&device), "ssd");
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "ssd");
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "ssd");
  return major == 9 && minor == 0;
}

void ssd_forward(const SsdForwardParams& p, CUstream_st* stream) {
  // Two blocks share a head's columns where there are too few heads to fill the GPU.
  const int kBlocksThatFill = 100;
  if (p.in.batch * p.in.heads * p.in.segments < kBlocksThatFill)
    launch_forward<1>(p, stream);
  else
    launch_forward<2>(p, stream);
}

}  // namespace transxssm::kernels
