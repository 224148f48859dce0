#include "ops/device_capability.h"

#include <array>
#include <atomic>

#include <c10/core/DeviceGuard.h>

#include "core/check.h"
#include "csrc_cuda/common/device_info.h"

namespace transxssm::ops {

int device_capability(at::Device device) {
  constexpr size_t kDevices = 64;
  static std::array<std::atomic<int>, kDevices> known{};
  const c10::DeviceGuard guard(device);
  const auto index = static_cast<size_t>(guard.current_device().index());
  expect(index < kDevices, concat("expected a device below ", kDevices, ", got ", device));
  if (known[index] == 0) known[index] = kernels::device_capability(static_cast<int>(index));
  return known[index];
}

}  // namespace transxssm::ops
