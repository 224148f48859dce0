// A random order of 0 … n − 1 that needs no table, so shuffling costs nothing at any corpus size.
#pragma once

#include <cstdint>

#include "core/rng.h"

namespace transxssm {

// Maps [0, n) one-to-one onto itself; which of the orders is decided by the key. A Feistel network with
// Philox as its round function permutes the next power of two, and indices that fall outside [0, n) are sent
// through it again (cycle walking): two passes at most on average.
class Permutation {
 public:
  Permutation(int64_t n, uint64_t key);
  int64_t operator()(int64_t i) const;

 private:
  uint64_t pass(uint64_t x) const;

  uint64_t n_;
  int left_bits_;
  int right_bits_;
  Philox rounds_;
};

// Key of the order of one epoch of a source of `tokens` tokens. Sources are told apart by their size, not by
// their path: the order survives a move of the data.
uint64_t epoch_key(uint64_t seed, int64_t tokens, int64_t epoch);

}  // namespace transxssm
