// Where a run computes, and what that device can do.
#pragma once

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

#include "config/run_config.h"
#include "ops/ssd.h"

namespace transxssm {

struct ComputeDevice {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;  // of weights and activations: bf16 or f32 on a GPU, f32 on a CPU
  std::string name;                   // "NVIDIA H100 80GB HBM3", "CPU, 2 threads"
  double peak_flops = 0;              // dense bf16 FLOP/s with f32 accumulation; 0 where unknown
};

// auto takes GPU 0 when there is one. Throws InputError when a GPU is asked for, by `option`, and absent.
ComputeDevice choose_device(Device wanted, ComputeDtype compute, const std::string& option = "train.device");

// What the configuration asks of the SSD operator.
inline ops::SsdPath ssd_path(const KernelsConfig& kernels) {
  return kernels.ssd == SsdKernel::reference ? ops::SsdPath::reference : ops::SsdPath::automatic;
}

// Bytes that can still be allocated: on a CPU what the system calls available, swap included, or the limit of
// the container where that is less.
uint64_t free_memory(const ComputeDevice& device);

// Most memory in use so far, GiB: allocated tensors on a GPU, the process on a CPU.
double memory_peak_gib(const ComputeDevice& device);

}  // namespace transxssm
