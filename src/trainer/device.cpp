#include "trainer/device.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>
#include <utility>

#include <sys/resource.h>

#include <ATen/Parallel.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>

#include "core/check.h"
#include "core/counted.h"
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

// The first number behind `key` in a text file such as /proc/meminfo (an empty key: in the file); nothing
// without file or key.
std::optional<uint64_t> number_in(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    uint64_t value = 0;
    if (line.starts_with(key) && std::istringstream(line.substr(key.size())) >> value) return value;
  }
  return std::nullopt;
}

// A container's limit, by either version of control groups; a file that says "max" sets none.
uint64_t container_limit() {
  constexpr uint64_t kNone = std::numeric_limits<uint64_t>::max();
  return std::min(number_in("/sys/fs/cgroup/memory.max", "").value_or(kNone),
                  number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes", "").value_or(kNone));
}

}  // namespace

ComputeDevice choose_device(Device wanted, ComputeDtype compute, const std::string& option) {
  const bool has_gpu = at::detail::getCUDAHooks().deviceCount() > 0;
  if (wanted == Device::cuda && !has_gpu)
    throw InputError(concat(option,
                            " is cuda, but this machine has no usable NVIDIA GPU (or the program was built "
                            "without CUDA): set ",
                            option, " to auto or cpu"));
  if (wanted == Device::cpu || !has_gpu)
    return {at::kCPU, at::kFloat, "CPU, " + counted(at::get_num_threads(), "thread"), 0};
  const std::string name = kernels::device_name(0);
  return {at::Device(at::kCUDA, 0), compute == ComputeDtype::bf16 ? at::kBFloat16 : at::kFloat, name,
          peak_flops(name)};
}

uint64_t free_memory(const ComputeDevice& device) {
  if (device.device.is_cuda())
    return at::getDeviceAllocator(at::kCUDA)->getMemoryInfo(device.device.index()).first;
  const auto available = number_in("/proc/meminfo", "MemAvailable:");
  if (!available) return container_limit();
  const uint64_t swap = number_in("/proc/meminfo", "SwapFree:").value_or(0);
  return std::min((*available + swap) * 1024, container_limit());
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
