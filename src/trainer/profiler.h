// What ran on the device and when, from LibTorch's profiler.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace torch::autograd::profiler {
struct ProfilerResult;
}

namespace transxssm {

// A kernel, copy or fill on the GPU.
struct DeviceActivity {
  std::string name;
  uint64_t start_ns = 0, end_ns = 0;
};

class Profile {
 public:
  explicit Profile(std::unique_ptr<torch::autograd::profiler::ProfilerResult> result);
  ~Profile();
  Profile(Profile&&) noexcept;

  std::vector<DeviceActivity> device_activities() const;  // none on a CPU
  void save(const std::filesystem::path& file);           // as a Chrome trace; once

 private:
  std::unique_ptr<torch::autograd::profiler::ProfilerResult> result_;
};

// Records from construction to stop(), or to destruction, and waits for the device at both ends.
class Profiler {
 public:
  explicit Profiler(at::Device device);
  ~Profiler();
  Profiler(const Profiler&) = delete;
  Profiler& operator=(const Profiler&) = delete;

  Profile stop();

 private:
  at::Device device_;
  bool running_ = true;
};

}  // namespace transxssm
