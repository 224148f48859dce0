#include "optim/flat_layout.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <set>

#include "core/check.h"

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

// 0: before the blocks; behind them their number plus one.
size_t block_of(size_t spec, const Sharding& sharding) {
  const auto& begins = sharding.blocks;
  return static_cast<size_t>(std::upper_bound(begins.begin(), begins.end(), spec) - begins.begin());
}

std::vector<std::vector<size_t>> by_block(const std::vector<size_t>& chosen, const Sharding& sharding) {
  std::vector<std::vector<size_t>> buckets;
  for (const size_t spec : chosen) {
    if (buckets.empty() || block_of(buckets.back().back(), sharding) != block_of(spec, sharding))
      buckets.emplace_back();
    buckets.back().push_back(spec);
  }
  return buckets;
}

void place_in_ring(FlatLayout& layout, const Sharding& sharding) {
  int64_t outside = 0, block_size = 0;
  std::set<size_t> seen;
  for (Bucket& bucket : layout.buckets) {
    const size_t block = block_of(bucket.specs.front(), sharding);
    expect(seen.insert(block).second, "matrices of one block must all take weight decay, or none");
    const bool in_block = block > 0 && block < sharding.blocks.size();
    if (in_block) bucket.slot = 1 + static_cast<int64_t>(block - 1) % kRingBlocks;
    int64_t& largest = in_block ? block_size : outside;
    largest = std::max(largest, bucket.size());
  }
  for (Bucket& bucket : layout.buckets)
    bucket.in_ring = bucket.slot == 0 ? 0 : outside + (bucket.slot - 1) * block_size;
  layout.ring_size = outside + kRingBlocks * block_size;
}

}  // namespace

FlatLayout lay_out(const std::vector<ParameterSpec>& specs, ParameterKind kind, const Sharding& sharding) {
  const bool matrices = kind == ParameterKind::matrix;
  const bool ring = matrices && sharding.shares_gradients();
  FlatLayout layout;
  layout.offsets.resize(specs.size());
  for (const bool decay : {true, false}) {
    std::vector<size_t> chosen;
    for (size_t i = 0; i < specs.size(); ++i)
      if (specs[i].kind == kind && specs[i].weight_decay == decay) chosen.push_back(i);
    for (auto& together :
         ring ? by_block(chosen, sharding) : in_buckets(specs, chosen, sharding.bucket_elements)) {
      Bucket bucket;
      bucket.begin = layout.size;
      bucket.decayed = decay;
      const auto skip_to = [&](int64_t next, int64_t used) {
        if (matrices && next > used) bucket.gaps.emplace_back(used - bucket.begin, next - bucket.begin);
        layout.size = next;
      };
      int64_t used = layout.size;
      for (const size_t i : together) {
        skip_to(up(used, kAlignment), used);
        layout.offsets[i] = layout.size;
        used = layout.size + elements(specs[i]);
      }
      skip_to(bucket.begin + up(used - bucket.begin, kAlignment * sharding.ranks), used);
      bucket.end = layout.size;
      bucket.specs = std::move(together);
      layout.buckets.push_back(std::move(bucket));
    }
    if (decay) layout.decayed = layout.size;
  }
  if (ring) place_in_ring(layout, sharding);
  return layout;
}

}  // namespace transxssm
