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
#include <c10/core/impl/VirtualGuardImpl.h>

#include "core/check.h"
#include "core/counted.h"
#include "core/logging.h"

namespace transxssm {
namespace {

// Dense bf16 tensor-core peaks, FLOP/s, and memory bandwidths, bytes/s, from NVIDIA's data sheets; the first
// name that occurs in the device's counts.
struct DataSheet {
  std::string_view name;
  double flops, bandwidth;
};
constexpr std::array<DataSheet, 8> kDataSheets{{
    {"H100 PCIe", 756e12, 2.0e12},
    {"H100 NVL", 835e12, 3.9e12},
    {"H100", 989e12, 3.35e12},
    {"GH200", 989e12, 4.0e12},
    {"H200", 989e12, 4.8e12},
    {"A100", 312e12, 2.0e12},
    {"L40S", 362e12, 0.864e12},
    {"RTX 4090", 165e12, 1.01e12},
}};

ComputeDevice gpu_named(const std::string& name, int capability, ComputeDtype compute) {
  ComputeDevice gpu{at::Device(at::kCUDA, 0), compute == ComputeDtype::bf16 ? at::kBFloat16 : at::kFloat,
                    name};
  gpu.capability = capability;
  for (const DataSheet& sheet : kDataSheets)
    if (name.find(sheet.name) != std::string::npos) {
      gpu.peak_flops = sheet.flops;
      gpu.memory_bandwidth = sheet.bandwidth;
      break;
    }
  return gpu;
}

// Those to plan for, with what they have as the driver says.
struct KnownGpu {
  std::string_view option;
  const char* name;
  int capability;
  uint64_t memory;
};
constexpr std::array<KnownGpu, 3> kKnownGpus{{
    {"h100", "NVIDIA H100 80GB HBM3", 90, 84'942'979'072},
    {"h200", "NVIDIA H200", 90, 150'109'880'320},
    {"a100", "NVIDIA A100-SXM4-80GB", 80, 84'987'740'160},
}};

// What the CUDA context of the program takes.
constexpr uint64_t kContextBytes = uint64_t{600} << 20;

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

uint64_t process_memory_peak() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;  // ru_maxrss is in KiB
}

}  // namespace

std::string driver_problem(const kernels::CudaVersions& versions) {
  if (!versions.driver_too_old) return "";
  const auto text = [](int version) { return concat(version / 1000, ".", version % 1000 / 10); };
  return concat("the NVIDIA driver serves CUDA ", text(versions.driver), " at most, this program needs ",
                text(versions.runtime), ": install a newer driver");
}

std::string capability_problem(const std::string& name, int capability, int lowest) {
  if (capability >= lowest) return "";
  const auto text = [](int number) { return concat(number / 10, ".", number % 10); };
  return concat(name, " has compute capability ", text(capability), ", this program needs ", text(lowest),
                " at least (TRANSXSSM_CUDA_ARCHITECTURES of the build): use a newer GPU");
}

ComputeDevice choose_device(Device wanted, ComputeDtype compute, const std::string& option) {
  const auto cpu = [] {
    return ComputeDevice{at::kCPU, at::kFloat, "CPU, " + counted(at::get_num_threads(), "thread"), 0};
  };
  if (wanted == Device::cpu) return cpu();
  const bool has_gpu = at::detail::getCUDAHooks().deviceCount() > 0;
  const std::string problem = has_gpu
                                  ? capability_problem(kernels::device_name(0), kernels::device_capability(0),
                                                       kernels::lowest_capability())
                                  : driver_problem(kernels::cuda_versions());
  if (has_gpu && problem.empty())
    return gpu_named(kernels::device_name(0), kernels::device_capability(0), compute);
  if (wanted == Device::cuda && !problem.empty()) throw InputError(concat(option, " is cuda, but ", problem));
  if (wanted == Device::cuda)
    throw InputError(concat(option,
                            " is cuda, but this machine has no usable NVIDIA GPU (or the program was built "
                            "without CUDA): set ",
                            option, " to auto or cpu"));
  if (!problem.empty()) log_warning(concat(problem, ", or the CPU does the work"));
  return cpu();
}

PlannedGpu planned_gpu(const std::string& name, ComputeDtype compute) {
  for (const KnownGpu& gpu : kKnownGpus)
    if (gpu.option == name) return {gpu_named(gpu.name, gpu.capability, compute), gpu.memory - kContextBytes};
  throw InputError(concat(name, " is no GPU to plan for"));
}

std::vector<std::string> planned_gpus() {
  std::vector<std::string> names;
  for (const KnownGpu& gpu : kKnownGpus) names.emplace_back(gpu.option);
  return names;
}

uint64_t usable_memory(const ComputeDevice& device) {
  if (!device.device.is_cuda()) return free_memory(device);
  return kernels::device_memory(device.device.index()) - kContextBytes;
}

uint64_t free_memory(const ComputeDevice& device) {
  if (device.device.is_cuda())
    return at::getDeviceAllocator(at::kCUDA)->getMemoryInfo(device.device.index()).first;
  const auto available = number_in("/proc/meminfo", "MemAvailable:");
  if (!available) return container_limit();
  const uint64_t swap = number_in("/proc/meminfo", "SwapFree:").value_or(0);
  return std::min((*available + swap) * 1024, container_limit());
}

void wait_for(at::Device device) {
  if (device.is_cuda()) c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

uint64_t memory_peak(const ComputeDevice& device) {
  if (device.device.is_cuda()) {
    const auto stats = at::getDeviceAllocator(at::kCUDA)->getDeviceStats(device.device.index());
    return static_cast<uint64_t>(stats.allocated_bytes[0].peak);
  }
  return process_memory_peak();
}

uint64_t memory_held(const ComputeDevice& device) {
  if (!device.device.is_cuda()) return process_memory_peak();
  const auto stats = at::getDeviceAllocator(at::kCUDA)->getDeviceStats(device.device.index());
  return static_cast<uint64_t>(stats.reserved_bytes[0].peak);
}

}  // namespace transxssm
