// Work captured in a CUDA graph, for tests that it can be and that a replay does the same.
#pragma once

#include <functional>
#include <stdexcept>

#ifdef TRANSXSSM_HAVE_CUDA
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#endif

namespace transxssm {

#ifdef TRANSXSSM_HAVE_CUDA

class CapturedGraph {
 public:
  // Captures `work` without running it; what it allocates lives as long as the graph. Threads that the test
  // does not control (NCCL's) may use the GPU meanwhile only if `beside_others`.
  explicit CapturedGraph(const std::function<void()>& work, bool beside_others = false) {
    c10::cuda::device_synchronize();
    const c10::cuda::CUDAStreamGuard stream(c10::cuda::getStreamFromPool());
    graph_.capture_begin({0, 0},
                         beside_others ? cudaStreamCaptureModeThreadLocal : cudaStreamCaptureModeGlobal);
    work();
    graph_.capture_end();
  }

  // Runs it and waits.
  void replay() {
    graph_.replay();
    c10::cuda::device_synchronize();
  }

 private:
  at::cuda::CUDAGraph graph_;
};

#else

class CapturedGraph {
 public:
  explicit CapturedGraph(const std::function<void()>&, bool = false) {
    throw std::runtime_error("built without CUDA");
  }
  void replay() {}
};

#endif

}  // namespace transxssm
