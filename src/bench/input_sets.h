// How many sets of inputs a timed operation takes in turn.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace transxssm::bench {

// Enough sets of so many bytes that together they are several times an L2 cache.
inline size_t input_sets(double bytes_per_set) {
  constexpr double kBytes = 300e6;
  return static_cast<size_t>(std::max(3.0, std::ceil(kBytes / bytes_per_set)));
}

}  // namespace transxssm::bench
