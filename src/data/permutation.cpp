// A Feistel network with cycle walking, see the header.
#include "data/permutation.h"

#include <bit>
#include <string>

#include "core/check.h"
#include "core/hash.h"

namespace transxssm {

namespace {

constexpr int kRounds = 8;

uint64_t low_bits(int bits) { return (uint64_t{1} << bits) - 1; }

}  // namespace

Permutation::Permutation(int64_t n, uint64_t key) : n_(static_cast<uint64_t>(n)), rounds_(key) {
  expect(n >= 1, concat("a permutation needs at least one element, got ", n));
  const int bits = static_cast<int>(std::bit_width(n_ - 1));
  left_bits_ = bits / 2;
  right_bits_ = bits - left_bits_;
}

// The halves may differ in width, so they take turns instead of changing places.
uint64_t Permutation::pass(uint64_t x) const {
  uint64_t left = x >> right_bits_;
  uint64_t right = x & low_bits(right_bits_);
  for (uint64_t round = 0; round < kRounds; ++round) {
    const bool even = round % 2 == 0;
    // Halves have at most 32 bits: the round number above them keeps the counters of the rounds apart.
    const uint64_t random = rounds_.block((round << 32) | (even ? right : left))[0];
    if (even) {
      left ^= random & low_bits(left_bits_);
    } else {
      right ^= random & low_bits(right_bits_);
    }
  }
  return left << right_bits_ | right;
}

int64_t Permutation::operator()(int64_t i) const {
  auto x = static_cast<uint64_t>(i);
  expect(x < n_, concat("index ", i, " outside [0, ", n_, ")"));
  do {
    x = pass(x);
  } while (x >= n_);
  return static_cast<int64_t>(x);
}

uint64_t epoch_key(uint64_t seed, int64_t tokens, int64_t epoch) {
  const auto words = Philox(hash_name(std::to_string(tokens), seed)).block(static_cast<uint64_t>(epoch));
  return uint64_t{words[0]} << 32 | words[1];
}

}  // namespace transxssm
