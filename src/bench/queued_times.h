// How long runs take that are queued one behind the other, as training and decoding queue them.
#pragma once

#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace transxssm::bench {

// Milliseconds of each of `repeats` runs; on a GPU all are queued before the first is waited for.
std::vector<double> queued_times(at::Device device, int repeats, const std::function<void(int)>& run);

struct Spread {
  double median_ms = 0, min_ms = 0, max_ms = 0;
};
Spread spread_of(std::vector<double> ms);

}  // namespace transxssm::bench
