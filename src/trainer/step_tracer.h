// Chrome traces of the steps that the configuration names.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include <ATen/core/Tensor.h>

#include "config/run_config.h"

namespace transxssm {

class StepTracer {
 public:
  StepTracer(const TraceConfig& config, std::filesystem::path folder, at::Device device)
      : config_(config), folder_(std::move(folder)), device_(device) {}

  // Records while the result lives, if `step` is to be traced; then waits for the device and writes
  // `folder`/step_00000120.json, for chrome://tracing or Perfetto. What can't be written is a warning.
  class Recording;
  std::shared_ptr<Recording> begin(int64_t step) const;

 private:
  TraceConfig config_;
  std::filesystem::path folder_;
  at::Device device_;
};

}  // namespace transxssm
