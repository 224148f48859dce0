#include "optim/flat_layout.h"

#include <algorithm>
#include <functional>
#include <numeric>

namespace transxssm {
namespace {

constexpr int64_t kAlignment = 256 / 2;  // elements

int64_t up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

int64_t elements(const ParameterSpec& spec) {
  return std::accumulate(spec.shape.begin(), spec.shape.end(), int64_t{1}, std::multiplies<>());
}

// Filled from the back, so that what is left over is the bucket of the first layers, whose gradients come
// last.
std::vector<std::vector<size_t>> in_buckets(const std::vector<ParameterSpec>& specs,
                                            const std::vector<size_t>& chosen, int64_t bucket_elements) {
  std::vector<std::vector<size_t>> buckets;
  int64_t filled = bucket_elements;
  for (auto spec = chosen.rbegin(); spec != chosen.rend(); ++spec) {
    if (filled >= bucket_elements) {
      buckets.emplace_back();
      filled = 0;
    }
    buckets.back().push_back(*spec);
    filled += elements(specs[*spec]);
  }
  for (auto& bucket : buckets) std::reverse(bucket.begin(), bucket.end());
  std::reverse(buckets.begin(), buckets.end());
  return buckets;
}

}  // namespace

FlatLayout lay_out(const std::vector<ParameterSpec>& specs, ParameterKind kind, const Sharding& sharding) {
  FlatLayout layout;
  layout.offsets.resize(specs.size());
  for (const bool decay : {true, false}) {
    std::vector<size_t> chosen;
    for (size_t i = 0; i < specs.size(); ++i)
      if (specs[i].kind == kind && specs[i].weight_decay == decay) chosen.push_back(i);
    for (auto& bucket : in_buckets(specs, chosen, sharding.bucket_elements)) {
      const int64_t begin = layout.size;
      for (const size_t i : bucket) {
        layout.offsets[i] = layout.size;
        layout.size += up(elements(specs[i]), kAlignment);
      }
      layout.size = begin + up(layout.size - begin, kAlignment * sharding.ranks);
      layout.buckets.push_back({begin, layout.size, decay, std::move(bucket)});
    }
    if (decay) layout.decayed = layout.size;
  }
  return layout;
}

}  // namespace transxssm
