// The SSD scan in chunks of plain ATen products, forward and hand-written backward: the CPU path, the CUDA
// path until there are kernels, and what kernels are compared with.
#pragma once

#include "ops/reference/ssd_chunks.h"

namespace transxssm::ops::reference {

// ops/ssd.h, arguments already checked. Keeps for backward the packed input and the state before each chunk.
SsdResult ssd(const c10::intrusive_ptr<SsdCall>& call, const at::Tensor& packed_btw,
              const std::optional<at::Tensor>& initial_state_bhpn);

}  // namespace transxssm::ops::reference
