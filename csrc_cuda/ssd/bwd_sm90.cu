// The backward scan, host side.
#include <map>

#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/ssd/bwd_finish_kernel.cuh"
#include "csrc_cuda/ssd/bwd_kernel.cuh"
#include "csrc_cuda/ssd/tensor_maps.h"

namespace transxssm::kernels {
namespace {

SsdBackwardMaps make_maps(const SsdBackwardParams& p) {
  const SsdInputs& in = p.in;
  SsdBackwardMaps maps{};
  maps.packed = packed_map(in);
  maps.dy = by_head_map("ssd dy", p.dy, in);
  maps.d_packed = sm90::make_tensor_map("ssd d_packed", {p.d_packed, p.d_packed_columns, in.tokens, in.batch,
                                                         p.d_packed_columns, p.d_packed_columns * in.tokens});
  maps.d_c = maps.d_b = maps.d_packed;
  if (p.d_heads) {
    auto* d_c = static_cast<unsigned short*>(p.d_heads);
    maps.d_c = by_head_map("ssd dC", d_c, in);
    maps.d_b = by_head_map("ssd dB", d_c + int64_t{in.heads} * kSsdWidth * in.tokens * in.batch, in);
  }
  maps.saved = states_map(p.saved_states, in);
  return maps;
}

// Runs work beside a stream's, by forking from it and joining it again; captured into a graph as branches.
class Branch {
 public:
  // The calling thread's branch on the current device.
  static Branch& of_current_device() {
    thread_local std::map<int, Branch> branches;
    int device = 0;
    check_cuda(cudaGetDevice(&device), "ssd_backward");
    return branches[device];
  }
  Branch() {
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "ssd_backward");
    for (cudaEvent_t* event : {&forked_, &joined_})
      check_cuda(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "ssd_backward");
  }
  cudaStream_t fork(cudaStream_t from) {
    check_cuda(cudaEventRecord(forked_, from), "ssd_backward");
    check_cuda(cudaStreamWaitEvent(stream_, forked_, 0), "ssd_backward");
    return stream_;
  }
  void join(cudaStream_t to) {
    check_cuda(cudaEventRecord(joined_, stream_), "ssd_backward");
    check_cuda(cudaStreamWaitEvent(to, joined_, 0), "ssd_backward");
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t forked_ = nullptr, joined_ = nullptr;
};

}  // namespace

void ssd_backward(const SsdBackwardParams& p, CUstream_st* stream) {
  const auto heads = static_cast<unsigned>(p.in.heads), batch = static_cast<unsigned>(p.in.batch);
  const auto segments = static_cast<unsigned>(p.in.segments);
  const SsdBackwardMaps maps = make_maps(p);
  // Side by side: where there are few heads neither fills the GPU, and each finds the other's tiles in the
  // cache.
  Branch& branch = Branch::of_current_device();
  const cudaStream_t beside = branch.fork(stream);
  launch("ssd_reverse", ssd_reverse_kernel,
         {{heads, batch, segments}, kReverseThreads, sizeof(SsdReverseShared), stream}, p, maps);
  launch("ssd_spans", ssd_spans_kernel,
         {{heads, batch, segments * kSpanInterleave}, kSpanThreads, sizeof(SsdSpanShared), beside}, p, maps);
  branch.join(stream);
  launch("ssd_backward_finish", ssd_backward_finish_kernel,
         {{heads, batch, kSsdSumParts}, 32 * kFinishWarps, 0, stream}, p);
  launch("ssd_parameter_gradients", ssd_parameter_gradients_kernel, {3, 64, 0, stream}, p);
}

}  // namespace transxssm::kernels
