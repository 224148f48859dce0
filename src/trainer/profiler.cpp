#include "trainer/profiler.h"

#include <set>
#include <utility>

#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include "trainer/device.h"

namespace transxssm {

namespace profiler = torch::autograd::profiler;
using torch::profiler::impl::ActivityType;

Profile::Profile(std::unique_ptr<profiler::ProfilerResult> result) : result_(std::move(result)) {}
Profile::~Profile() = default;
Profile::Profile(Profile&&) noexcept = default;

std::vector<DeviceActivity> Profile::device_activities() const {
  // Kineto's numbers of what the device does itself; others repeat the host's annotations.
  constexpr uint8_t kFirst = 3, kLast = 5;  // copy, fill, kernel
  std::vector<DeviceActivity> activities;
  for (const auto& event : result_->events()) {
    if (event.deviceType() != at::kCUDA || event.activityType() < kFirst || event.activityType() > kLast)
      continue;
    activities.push_back({event.name(), event.startNs(), event.endNs()});
  }
  return activities;
}

void Profile::save(const std::filesystem::path& file) { result_->save(file.string()); }

Profiler::Profiler(at::Device device) : device_(device) {
  wait_for(device_);
  std::set<ActivityType> activities{ActivityType::CPU};
  if (device.is_cuda()) activities.insert(ActivityType::CUDA);
  const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities);
}

Profiler::~Profiler() {
  if (running_) stop();
}

Profile Profiler::stop() {
  running_ = false;
  wait_for(device_);
  return Profile(profiler::disableProfiler());
}

}  // namespace transxssm
