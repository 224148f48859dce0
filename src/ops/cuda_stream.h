// The stream that a launcher of csrc_cuda gets. Needs no CUDA header, so callers are the same in every build.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/impl/VirtualGuardImpl.h>

struct CUstream_st;  // what cudaStream_t points to

namespace transxssm::ops {

// LibTorch's current stream of the tensor's device.
inline CUstream_st* current_stream(const at::Tensor& tensor) {
  const c10::impl::VirtualGuardImpl device(tensor.device().type());
  return static_cast<CUstream_st*>(device.getStreamNativeHandle(device.getStream(tensor.device())));
}

}  // namespace transxssm::ops
