// Where parameters lie in the flat buffers, and how these are divided among ranks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/parameter.h"

namespace transxssm {

// ZeRO. What ranks share lies on each of them for the parts that it owns only. Vectors, a thousandth of all
// elements, are whole on every rank but for their optimizer state.
struct Sharding {
  int64_t rank = 0;
  int64_t ranks = 1;
  int64_t stage = 0;
  // From stage 2 on, which matrices are in use together: numbers of the first parameter of each block, in
  // order, and of what follows the last one. A bucket holds the matrices of one block.
  std::vector<size_t> blocks;
  // Of a bucket, at least: large enough for the full rate between GPUs, small enough that the one that comes
  // last, which nothing hides, is short.
  int64_t bucket_elements = int64_t{16} << 20;

  bool shares_state() const { return stage >= 1; }  // master and moments
  bool shares_gradients() const { return stage >= 2; }
  bool shares_weights() const { return stage >= 3; }
};

// Blocks that have room in the ring at once: of one the memory is in use, that of the other is on its way.
inline constexpr int64_t kRingBlocks = 2;

// Consecutive parameters whose gradients are summed over the ranks together. Each rank owns an equal part of
// it, aligned like a parameter.
struct Bucket {
  int64_t begin = 0;  // elements of its buffer
  int64_t end = 0;
  bool decayed = false;
  std::vector<size_t> specs;  // indices of its parameters, ascending
  // Elements [begin, end) from `begin` on that belong to no parameter; of matrices.
  std::vector<std::pair<int64_t, int64_t>> gaps;
  int64_t slot = 0;     // of the ring, where there is one: 0 for what belongs to no block
  int64_t in_ring = 0;  // where the slot begins, in elements

  int64_t size() const { return end - begin; }

  int64_t part(int64_t ranks) const { return (end - begin) / ranks; }
};

struct FlatLayout {
  std::vector<int64_t> offsets;  // by index of the spec; unused for the other kind
  std::vector<Bucket> buckets;   // without gaps
  int64_t decayed = 0;           // elements [0, decayed) take weight decay, the rest doesn't
  int64_t size = 0;
  int64_t ring_size = 0;  // elements, from stage 2 on
};

// Decayed parameters first, else in the order of the specs. Each starts at a multiple of 256 bytes of the
// narrowest buffer, bf16. For one rank, buckets bring no gaps.
//
// Matrices from stage 2 on: the ring has a slot for what belongs to no block, embedding and head in turn, and
// kRingBlocks for the blocks in turn, each as large as the largest that uses it.
FlatLayout lay_out(const std::vector<ParameterSpec>& specs, ParameterKind kind, const Sharding& sharding);

}  // namespace transxssm
