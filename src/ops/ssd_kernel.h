// The SSD scan by the CUDA kernels of csrc_cuda/ssd.
#pragma once

#include "ops/reference/ssd_chunks.h"

namespace transxssm::ops {

// Null where the kernels take such a call, else why they don't.
const char* why_no_ssd_kernel(const SsdDims& dims, at::Device device, at::ScalarType dtype);

// The same for a GPU that need not be there, of that compute capability (90 is 9.0).
const char* why_no_ssd_kernel(const SsdDims& dims, at::ScalarType dtype, int capability);

// ops/ssd.h, arguments already checked but for what the kernels want beyond it. Keeps for backward the packed
// input and one bf16 state per 128 tokens and head.
SsdResult ssd_kernel(c10::intrusive_ptr<reference::SsdCall> call, const at::Tensor& packed_btw,
                     const std::optional<at::Tensor>& initial_state_bhpn);

}  // namespace transxssm::ops
