// How long the collectives of ranks take, by size.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/mesh.h"

namespace transxssm::bench {

struct CollectiveTiming {
  std::string collective;  // all_reduce | reduce_scatter | all_gather
  uint64_t bytes = 0;      // of the whole tensor, f32
  // Of the rank that took longest. Calls follow each other without a pause and are queued one by one.
  double median_ms = 0, min_ms = 0, max_ms = 0;
  // What each rank's link carries in one direction, whatever the number of ranks.
  double bus_bytes_per_second = 0;
};

// `mesh` is connected for `device`; all ranks call it. Sizes in bytes are rounded up to what ranks can
// divide.
std::vector<CollectiveTiming> time_collectives(const Mesh& mesh, at::Device device,
                                               const std::vector<int64_t>& sizes, int repeats);

}  // namespace transxssm::bench
