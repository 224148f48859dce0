#include "bench/queued_times.h"

#include <algorithm>
#include <chrono>

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "trainer/device.h"

namespace transxssm::bench {

std::vector<double> queued_times(at::Device device, int repeats, const std::function<void(int)>& run) {
  std::vector<double> ms;
  if (!device.is_cuda()) {
    for (int i = 0; i < repeats; ++i) {
      const auto start = std::chrono::steady_clock::now();
      run(i);
      ms.push_back(
          std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    }
    return ms;
  }
  const c10::impl::VirtualGuardImpl guard(device.type());
  std::vector<c10::Event> events;
  const auto mark = [&] {
    events.emplace_back(device.type(), c10::EventFlag::BACKEND_DEFAULT);
    events.back().record(guard.getStream(device));
  };
  mark();
  for (int i = 0; i < repeats; ++i) {
    run(i);
    mark();
  }
  wait_for(device);
  for (size_t i = 1; i < events.size(); ++i) ms.push_back(events[i - 1].elapsedTime(events[i]));
  return ms;
}

Spread spread_of(std::vector<double> ms) {
  std::sort(ms.begin(), ms.end());
  return {ms[ms.size() / 2], ms.front(), ms.back()};
}

}  // namespace transxssm::bench
