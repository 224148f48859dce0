// Compute capability of a GPU, asked once.
#pragma once

#include <c10/core/Device.h>

namespace transxssm::ops {

// 90 for 9.0.
int device_capability(at::Device device);

}  // namespace transxssm::ops
