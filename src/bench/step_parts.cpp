#include "bench/step_parts.h"

#include <algorithm>
#include <string_view>

namespace transxssm::bench {
namespace {

struct Mark {
  std::string_view text;  // in the kernel's name
  StepPart part;
};

// The first that occurs decides: our own kernels, then libraries' attention, which is made of products too.
constexpr Mark kMarks[] = {
    {"cross_entropy", StepPart::loss},
    {"rms_norm", StepPart::norm},
    {"column_sums", StepPart::norm},
    {"swiglu", StepPart::activation},
    {"causal_conv1d", StepPart::activation},
    {"adamw", StepPart::optimizer},
    {"sum_squares", StepPart::optimizer},
    {"norm_of_partial_sums", StepPart::optimizer},
    {"ssd", StepPart::ssd},
    {"cudnn", StepPart::attention},  // used for nothing else
    {"sdpa", StepPart::attention},
    {"fmha", StepPart::attention},
    {"flash", StepPart::attention},
    {"attention", StepPart::attention},
    {"rope", StepPart::attention},
    {"rotate", StepPart::attention},
    {"nvjet", StepPart::gemm},
    {"gemm", StepPart::gemm},
    {"cutlass", StepPart::gemm},
    {"cublas", StepPart::gemm},
    {"splitK", StepPart::gemm},
};

}  // namespace

const char* name_of(StepPart part) {
  constexpr std::array<const char*, kStepParts.size()> names{"GEMM",       "SSD",  "attention", "norm",
                                                             "activation", "loss", "optimizer", "other"};
  return names[static_cast<size_t>(part)];
}

StepPart part_of(const std::string& kernel) {
  for (const Mark& mark : kMarks)
    if (kernel.find(mark.text) != std::string::npos) return mark.part;
  return StepPart::other;
}

StepTime step_time(const std::vector<DeviceActivity>& activities, int steps) {
  StepTime time;
  if (activities.empty()) return time;
  std::vector<DeviceActivity> sorted = activities;
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.start_ns < b.start_ns; });
  const double per_step = 1e-6 / steps;
  uint64_t end = sorted.front().start_ns;
  for (const DeviceActivity& a : sorted) {
    time.ms[static_cast<size_t>(part_of(a.name))] += static_cast<double>(a.end_ns - a.start_ns) * per_step;
    if (a.end_ns > end) {
      time.busy_ms += static_cast<double>(a.end_ns - std::max(a.start_ns, end)) * per_step;
      end = a.end_ns;
    }
  }
  time.span_ms = static_cast<double>(end - sorted.front().start_ns) * per_step;
  return time;
}

}  // namespace transxssm::bench
