#include "bench/collectives.h"

#include <algorithm>
#include <chrono>
#include <functional>

#include <ATen/ops/zeros.h>

#include "trainer/device.h"

namespace transxssm::bench {
namespace {

constexpr int64_t kElement = 4;  // bytes of an f32

// Milliseconds of a call, `repeats` times, sorted.
std::vector<double> times_of(const std::function<void()>& call, at::Device device, const Mesh& mesh,
                             int repeats) {
  constexpr int kCalls = 5;  // in a timed row, so that the wait for the device weighs little
  const auto row = [&] {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) call();
    wait_for(device);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() * 1e3 / kCalls;
  };
  row();
  mesh.barrier();
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) times.push_back(row());
  std::sort(times.begin(), times.end());
  return times;
}

double largest_of_ranks(const Mesh& mesh, double own) {
  double largest = own;
  for (const std::string& other : mesh.exchange(std::to_string(own)))
    largest = std::max(largest, std::stod(other));
  return largest;
}

}  // namespace

std::vector<CollectiveTiming> time_collectives(const Mesh& mesh, at::Device device,
                                               const std::vector<int64_t>& sizes, int repeats) {
  const int64_t ranks = mesh.size();
  std::vector<CollectiveTiming> out;
  for (const int64_t bytes : sizes) {
    const int64_t part = (bytes + kElement * ranks - 1) / (kElement * ranks);
    const at::Tensor whole = at::zeros({part * ranks}, at::device(device).dtype(at::kFloat));
    const at::Tensor own = whole.narrow(0, mesh.rank() * part, part);
    const auto others = static_cast<double>(ranks - 1) / static_cast<double>(ranks);
    struct Call {
      const char* name;
      double sent;  // times the bytes of the tensor
      std::function<void()> run;
    };
    for (const Call& call : {Call{"all_reduce", 2 * others, [&] { mesh.all_reduce(whole); }},
                             Call{"reduce_scatter", others, [&] { mesh.reduce_scatter(own, whole); }},
                             Call{"all_gather", others, [&] { mesh.all_gather(whole, own); }}}) {
      const auto times = times_of(call.run, device, mesh, repeats);
      CollectiveTiming timing{call.name, static_cast<uint64_t>(part * ranks * kElement), 0, 0, 0, 0};
      timing.median_ms = largest_of_ranks(mesh, times[times.size() / 2]);
      timing.min_ms = largest_of_ranks(mesh, times.front());
      timing.max_ms = largest_of_ranks(mesh, times.back());
      timing.bus_bytes_per_second = call.sent * static_cast<double>(timing.bytes) / (1e-3 * timing.median_ms);
      out.push_back(timing);
    }
  }
  return out;
}

}  // namespace transxssm::bench
