// Where a run computes, and what that device can do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "config/run_config.h"
#include "csrc_cuda/common/device_info.h"
#include "ops/attention.h"
#include "ops/ssd.h"

namespace transxssm {

struct ComputeDevice {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;  // of weights and activations: bf16 or f32 on a GPU, f32 on a CPU
  std::string name;                   // "NVIDIA H100 80GB HBM3", "CPU, 2 threads"
  double peak_flops = 0;              // dense bf16 FLOP/s with f32 accumulation; 0 where unknown
  double memory_bandwidth = 0;        // bytes/s; 0 where unknown
  int capability = 0;                 // of a GPU: 90 for compute capability 9.0
};

// Why a GPU can't be used although it has a driver, with both versions; empty without such a reason.
std::string driver_problem(const kernels::CudaVersions& versions);

// Why the program has no code for a GPU of that compute capability; empty where it has.
std::string capability_problem(const std::string& name, int capability, int lowest);

// auto takes GPU 0 when there is one that can be used, and says why where it can't. Throws InputError when a
// GPU is asked for, by `option`, and absent or of no use.
ComputeDevice choose_device(Device wanted, ComputeDtype compute, const std::string& option = "train.device");

// A GPU that need not be there, to plan for: one of planned_gpus().
struct PlannedGpu {
  ComputeDevice device;
  uint64_t memory = 0;  // bytes for a run: what the driver keeps is taken off
};
PlannedGpu planned_gpu(const std::string& name, ComputeDtype compute);
std::vector<std::string> planned_gpus();

// What the configuration asks of the operators.
inline ops::SsdPath ssd_path(const KernelsConfig& kernels) {
  return kernels.ssd == KernelChoice::reference ? ops::SsdPath::reference : ops::SsdPath::automatic;
}

inline ops::AttentionPath attention_path(const KernelsConfig& kernels) {
  return kernels.attention == KernelChoice::reference ? ops::AttentionPath::reference
                                                      : ops::AttentionPath::automatic;
}

// Bytes that a run on `device` finds when nothing else uses it. Allocates nothing there.
uint64_t usable_memory(const ComputeDevice& device);

// Bytes that can still be allocated: on a CPU what the system calls available, swap included, or the limit of
// the container where that is less.
uint64_t free_memory(const ComputeDevice& device);

// Until everything queued on the device is done.
void wait_for(at::Device device);

// Most memory in use so far, bytes: allocated tensors on a GPU, the process on a CPU.
uint64_t memory_peak(const ComputeDevice& device);

// Most memory that the allocator has held, what lay idle between tensors included; on a CPU the same as
// memory_peak.
uint64_t memory_held(const ComputeDevice& device);

}  // namespace transxssm
