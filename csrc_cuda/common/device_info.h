// What the runtime says about a GPU.
#pragma once

#include <string>

namespace transxssm::kernels {

// "NVIDIA H100 80GB HBM3"
std::string device_name(int device);

}  // namespace transxssm::kernels
