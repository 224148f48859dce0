// Other work on the GPU while a test runs: large products on a stream of their own.
#pragma once

#include <stdexcept>

#ifdef TRANSXSSM_HAVE_CUDA
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#endif

namespace transxssm {

#ifdef TRANSXSSM_HAVE_CUDA

class BusyGpu {
 public:
  BusyGpu()
      : stream_(c10::cuda::getStreamFromPool()),
        factor_(at::ones({kSize, kSize}, at::TensorOptions(at::kCUDA).dtype(at::kBFloat16))),
        product_(at::empty_like(factor_)) {
    c10::cuda::device_synchronize();
  }
  ~BusyGpu() { c10::cuda::device_synchronize(); }
  BusyGpu(const BusyGpu&) = delete;
  BusyGpu& operator=(const BusyGpu&) = delete;

  // Queues one more product, a few tenths of a millisecond.
  void queue() {
    const c10::cuda::CUDAStreamGuard guard(stream_);
    at::mm_out(product_, factor_, factor_);
  }

 private:
  static constexpr int64_t kSize = 4096;
  c10::cuda::CUDAStream stream_;
  at::Tensor factor_, product_;
};

#else

class BusyGpu {
 public:
  BusyGpu() { throw std::runtime_error("built without CUDA"); }
  void queue() {}
};

#endif

}  // namespace transxssm
