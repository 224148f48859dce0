// What the runtime says about a GPU.
#pragma once

#include <cstdint>
#include <string>

namespace transxssm::kernels {

// CUDA versions as 1000 · major + 10 · minor: the newest that the installed driver serves, 0 without a
// driver, and that of the runtime in this program; whether the runtime refuses the driver as too old.
struct CudaVersions {
  int driver = 0;
  int runtime = 0;
  bool driver_too_old = false;
};
CudaVersions cuda_versions();

// "NVIDIA H100 80GB HBM3"
std::string device_name(int device);

// Tells GPUs apart, whatever numbers processes see them under: 32 hex digits.
std::string device_uuid(int device);

// Bytes that it has, used or not.
uint64_t device_memory(int device);

// 90 for compute capability 9.0.
int device_capability(int device);

// The lowest that the kernels were compiled for, likewise.
int lowest_capability();

}  // namespace transxssm::kernels
