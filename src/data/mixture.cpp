// The source furthest below its share comes next.
#include "data/mixture.h"

#include <cmath>
#include <numeric>

#include "core/check.h"

namespace transxssm {

Mixture::Mixture(std::vector<double> weights) : weights_(std::move(weights)), given_(weights_.size(), 0) {
  for (const double weight : weights_) {
    expect(weight >= 0 && std::isfinite(weight), concat("weight ", weight, " is not a number ≥ 0"));
  }
  const double sum = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  expect(sum > 0, "no source has a weight above 0");
  for (double& weight : weights_) weight /= sum;
}

size_t Mixture::next() {
  ++total_;
  size_t furthest = 0;
  double furthest_below = 0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    // Above 0 for at least one source: shares sum to total_, sequences given so far to one less.
    const double below = weights_[i] * static_cast<double>(total_) - static_cast<double>(given_[i]);
    if (below > furthest_below) {
      furthest = i;
      furthest_below = below;
    }
  }
  ++given_[furthest];
  return furthest;
}

void Mixture::restore(std::vector<int64_t> given) {
  expect(given.size() == weights_.size(), "another number of sources");
  given_ = std::move(given);
  total_ = std::accumulate(given_.begin(), given_.end(), int64_t{0});
}

}  // namespace transxssm
