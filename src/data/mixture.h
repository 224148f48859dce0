// Which source each sequence comes from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace transxssm {

// Gives out sequences by weight: the next one comes from the source furthest below its share (the first of
// them when several are), so shares hold at any time and not only on average, without a random number.
class Mixture {
 public:
  // Weights ≥ 0 with a positive sum; normalised here.
  explicit Mixture(std::vector<double> weights);

  size_t next();

  // Sequences from each source so far; restore(given()) goes on exactly.
  const std::vector<int64_t>& given() const { return given_; }
  void restore(std::vector<int64_t> given);

 private:
  std::vector<double> weights_;
  std::vector<int64_t> given_;
  int64_t total_ = 0;
};

}  // namespace transxssm
