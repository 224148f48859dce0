#include "trainer/device.h"

#include <array>
#include <string_view>
#include <utility>

#include <sys/resource.h>

#include <ATen/Parallel.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>

#include "core/check.h"
#include "csrc_cuda/common/device_info.h"

namespace transxssm {
namespace {

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

// Dense bf16 tensor-core peaks from NVIDIA's data sheets; the first name that occurs in the device's counts.
constexpr std::array<std::pair<std::string_view, double>, 8> kPeakFlops{{
    {"H100 PCIe", 756e12},
    {"H100 NVL", 835e12},
    {"H100", 989e12},
    {"H200", 989e12},
    {"GH200", 989e12},
    {"A100", 312e12},
    {"L40S", 362e12},
    {"RTX 4090", 165e12},
}};

double peak_flops(const std::string& name) {
  for (const auto& [part, flops] : kPeakFlops)
    if (name.find(part) != std::string::npos) return flops;
  return 0;
}

}  // namespace

ComputeDevice choose_device(Device wanted, ComputeDtype compute) {
  const bool has_gpu = at::detail::getCUDAHooks().deviceCount() > 0;
  if (wanted == Device::cuda && !has_gpu)
    throw InputError(
        "train.device is cuda, but this machine has no usable NVIDIA GPU (or the program was built "
        "without CUDA): set train.device to auto or cpu");
  if (wanted == Device::cpu || !has_gpu)
    return {at::kCPU, at::kFloat, concat("CPU, ", at::get_num_threads(), " threads"), 0};
  const std::string name = kernels::device_name(0);
  return {at::Device(at::kCUDA, 0), compute == ComputeDtype::bf16 ? at::kBFloat16 : at::kFloat, name,
          peak_flops(name)};
}

double memory_peak_gib(const ComputeDevice& device) {
  if (device.device.is_cuda()) {
    const auto stats = at::getDeviceAllocator(at::kCUDA)->getDeviceStats(device.device.index());
    return static_cast<double>(stats.allocated_bytes[0].peak) / kGib;
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024 / kGib;  // ru_maxrss is in KiB
}

}  // namespace transxssm
