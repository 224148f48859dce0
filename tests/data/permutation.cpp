// Keyed permutations: each is one-to-one, and keys give different orders.
#include "data/permutation.h"

#include <cmath>
#include <set>
#include <vector>

#include "support/catch.h"

using namespace transxssm;

namespace {

std::vector<int64_t> order(int64_t n, uint64_t key) {
  const Permutation permutation(n, key);
  std::vector<int64_t> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(permutation(i));
  return out;
}

}  // namespace

TEST_CASE("permutation: every index comes exactly once, whatever n") {
  const int64_t n = GENERATE(1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 127, 1009, 4095, 4096, 4097, 65537);
  for (const uint64_t key : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
    const auto indices = order(n, key);
    const std::set<int64_t> distinct(indices.begin(), indices.end());
    REQUIRE(distinct.size() == static_cast<size_t>(n));
    REQUIRE(*distinct.begin() == 0);
    REQUIRE(*distinct.rbegin() == n - 1);
  }
}

TEST_CASE("permutation: indices of a huge range stay inside it and don't meet") {
  const int64_t n = GENERATE((int64_t{1} << 40) + 1, (int64_t{1} << 62) + 12345, INT64_MAX);
  const Permutation permutation(n, 7);
  std::set<int64_t> distinct;
  for (int64_t i = 0; i < 1000; ++i) {
    for (const int64_t index : {i, n - 1 - i}) {
      const int64_t image = permutation(index);
      REQUIRE(image >= 0);
      REQUIRE(image < n);
      distinct.insert(image);
    }
  }
  CHECK(distinct.size() == 2000);
}

TEST_CASE("permutation: images of neighbours are spread over the whole range") {
  // Mean and, between neighbours, correlation of uniform numbers: both within 5 standard deviations.
  constexpr int64_t kN = 1000003;
  constexpr int kSamples = 20000;
  const Permutation permutation(kN, 3);
  double mean = 0;
  double product = 0;
  double previous = 0;
  for (int i = 0; i < kSamples; ++i) {
    const double x = static_cast<double>(permutation(i)) / kN - 0.5;
    mean += x / kSamples;
    product += x * previous / kSamples;
    previous = x;
  }
  CHECK(std::abs(mean) < 5 * 0.2887 / std::sqrt(kSamples));
  CHECK(std::abs(product) < 5 * 0.0833 / std::sqrt(kSamples));
}

TEST_CASE("permutation: seed, size and epoch each give another order") {
  const auto first = order(1009, epoch_key(1, 5000, 0));
  CHECK(order(1009, epoch_key(1, 5000, 0)) == first);
  CHECK(order(1009, epoch_key(2, 5000, 0)) != first);
  CHECK(order(1009, epoch_key(1, 5001, 0)) != first);
  CHECK(order(1009, epoch_key(1, 5000, 1)) != first);
}
