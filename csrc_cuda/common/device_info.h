// What the runtime says about a GPU.
#pragma once

#include <cstdint>
#include <string>

namespace transxssm::kernels {

// "NVIDIA H100 80GB HBM3"
std::string device_name(int device);

// Bytes that it has, used or not.
uint64_t device_memory(int device);

// 90 for compute capability 9.0.
int device_capability(int device);

}  // namespace transxssm::kernels
