// The one place that asks the CUDA runtime what a GPU is.
#include "csrc_cuda/common/device_info.h"
#include "csrc_cuda/common/launch.cuh"

namespace transxssm::kernels {

namespace {

cudaDeviceProp properties_of(int device, const char* asked) {
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, device), asked);
  return properties;
}

}  // namespace

CudaVersions cuda_versions() {
  CudaVersions versions;
  check_cuda(cudaDriverGetVersion(&versions.driver), "cuda_versions");
  check_cuda(cudaRuntimeGetVersion(&versions.runtime), "cuda_versions");
  int count = 0;
  versions.driver_too_old = cudaGetDeviceCount(&count) == cudaErrorInsufficientDriver && versions.driver > 0;
  static_cast<void>(cudaGetLastError());  // having no GPU is an answer here, not a failure of the next call
  return versions;
}

std::string device_name(int device) { return properties_of(device, "device_name").name; }

std::string device_uuid(int device) {
  const cudaDeviceProp properties = properties_of(device, "device_uuid");
  std::string text;
  for (const char byte : properties.uuid.bytes)
    for (const int shift : {4, 0}) text += "0123456789abcdef"[static_cast<unsigned char>(byte) >> shift & 15];
  return text;
}

uint64_t device_memory(int device) { return properties_of(device, "device_memory").totalGlobalMem; }

int device_capability(int device) {
  int major = 0, minor = 0;
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "device_capability");
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "device_capability");
  return 10 * major + minor;
}

int lowest_capability() { return TRANSXSSM_LOWEST_CAPABILITY; }

}  // namespace transxssm::kernels
