// How long an operation takes on the GPU.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace transxssm::bench {

// Name of the GPU that is timed. Throws InputError where there is none.
std::string find_gpu();

// One operation on one of several sets of inputs. The sets are taken in turn, so that a run does not find its
// inputs in the L2 cache if all of them together are much larger.
struct Workload {
  size_t input_sets = 0;
  std::function<void(size_t set)> queue;  // queues the operation on the current stream
};

struct Timing {
  // Between device events around each run, while the host is far ahead: no launch overhead.
  double median_ms = 0, min_ms = 0, max_ms = 0;
  double host_ms = 0;  // what the host needs to queue a run: more than median_ms means launch-bound
  std::optional<double>
      graph_ms;  // median as a captured CUDA graph; none where the operation can't be captured
};

// After a warm-up with every set. On LibTorch's current device.
Timing time_on_device(const Workload& work, int repeats);

// Of each of the sets, taken as variants of one operation: median of `repeats` runs. They take turns, so that
// a clock that changes meanwhile favours none.
std::vector<double> medians_by_set(const Workload& work, int repeats);

// The same under load: each of the sets runs for `block_ms` without a pause, of which the second half counts,
// and such blocks take turns. So each is timed at the clock that its own power leaves it, as in training,
// where a GPU stands at its limit of power.
std::vector<double> sustained_ms_by_set(const Workload& work, double block_ms, int rounds);

// Bytes read plus bytes written per second of a large copy inside the GPU's memory.
double copy_bytes_per_second(int repeats);

}  // namespace transxssm::bench
