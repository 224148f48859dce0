// Where a training step's time on the device goes, by what its kernels are called.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "trainer/profiler.h"

namespace transxssm::bench {

enum class StepPart { gemm, ssd, attention, norm, activation, loss, optimizer, other };
inline constexpr std::array kStepParts{StepPart::gemm,      StepPart::ssd,        StepPart::attention,
                                       StepPart::norm,      StepPart::activation, StepPart::loss,
                                       StepPart::optimizer, StepPart::other};

const char* name_of(StepPart part);

// Of a kernel, copy or fill.
StepPart part_of(const std::string& kernel);

struct StepTime {
  std::array<double, kStepParts.size()> ms{};  // by part; kernels that run side by side count in full
  double busy_ms = 0;                          // during which something ran
  double span_ms = 0;                          // from the first start to the last end
};

// Means over `steps` steps, of which these are the activities.
StepTime step_time(const std::vector<DeviceActivity>& activities, int steps);

}  // namespace transxssm::bench
