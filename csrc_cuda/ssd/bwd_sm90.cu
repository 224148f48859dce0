// The backward scan, host side.
#include <map>

#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/sm90/tensor_map.h"
#include "csrc_cuda/ssd/bwd_finish_kernel.cuh"
#include "csrc_cuda/ssd/bwd_kernel.cuh"

namespace transxssm::kernels {
namespace {

SsdBackwardMaps make_maps(const SsdBackwardParams& p) {
  const SsdInputs& in = p.in;
  const int64_t width = int64_t{in.heads} * kSsdWidth, spans = ssd_spans(in.tokens);
  const auto by_head = [&](const char* what, const void* data) {
    return sm90::make_tensor_map(what, {data, width, in.tokens, in.batch, width, width * in.tokens});
  };
  SsdBackwardMaps maps{};
  maps.packed = sm90::make_tensor_map("ssd packed", {in.packed, in.packed_columns, in.tokens, in.batch,
                                                     in.packed_row_stride, in.packed_batch_stride});
  maps.dy = by_head("ssd dy", p.dy);
  maps.d_packed = sm90::make_tensor_map("ssd d_packed", {p.d_packed, p.d_packed_columns, in.tokens, in.batch,
                                                         p.d_packed_columns, p.d_packed_columns * in.tokens});
  maps.d_c = maps.d_b = maps.d_packed;
  if (p.d_heads) {
    auto* heads = static_cast<unsigned short*>(p.d_heads);
    maps.d_c = by_head("ssd dC", heads);
    maps.d_b = by_head("ssd dB", heads + width * in.tokens * in.batch);
  }
  maps.saved = sm90::make_tensor_map(
      "ssd states", {p.saved_states, kSsdWidth, spans * kSsdWidth, int64_t{in.batch} * in.heads, kSsdWidth,
                     spans * kSsdWidth * kSsdWidth});
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
