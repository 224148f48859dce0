// Where parameters lie in the flat buffers, and how these are divided among ranks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/parameter.h"

namespace transxssm {

struct Sharding {
  int64_t rank = 0;
  int64_t ranks = 1;
  bool optimizer_state = false;  // a rank holds master and moments of the parts that it owns only
  // Of a bucket, at least: large enough for the full rate between GPUs, small enough that the one that comes
  // last, which nothing hides, is short.
  int64_t bucket_elements = int64_t{16} << 20;
};

// Consecutive parameters whose gradients are summed over the ranks together. Each rank owns an equal part of
// it, aligned like a parameter.
struct Bucket {
  int64_t begin = 0;  // elements of its buffer
  int64_t end = 0;
  bool decayed = false;
  std::vector<size_t> specs;  // indices of its parameters, ascending

  int64_t part(int64_t ranks) const { return (end - begin) / ranks; }
};

struct FlatLayout {
  std::vector<int64_t> offsets;  // by index of the spec; unused for the other kind
  std::vector<Bucket> buckets;   // without gaps
  int64_t decayed = 0;           // elements [0, decayed) take weight decay, the rest doesn't
  int64_t size = 0;
};

// Decayed parameters first, else in the order of the specs. Each starts at a multiple of 256 bytes of the
// narrowest buffer, bf16. For one rank, buckets bring no gaps.
FlatLayout lay_out(const std::vector<ParameterSpec>& specs, ParameterKind kind, const Sharding& sharding);

}  // namespace transxssm
