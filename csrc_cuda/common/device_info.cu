// The one place that asks the CUDA runtime what a GPU is.
#include "csrc_cuda/common/device_info.h"
#include "csrc_cuda/common/launch.cuh"

namespace transxssm::kernels {

std::string device_name(int device) {
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, device), "device_name");
  return properties.name;
}

}  // namespace transxssm::kernels
