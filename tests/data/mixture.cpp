// The mixture of sources: shares hold at any time, and a restored mixture goes on.
#include "data/mixture.h"

#include <cmath>
#include <numeric>

#include "support/catch.h"

using namespace transxssm;

TEST_CASE("mixture: at any time every source is within 1 of its share") {
  const std::vector<double> weights = GENERATE(
      std::vector<double>{1}, std::vector<double>{1, 1}, std::vector<double>{0.7, 0.2, 0.1},
      std::vector<double>{3, 5, 7}, std::vector<double>{1, 0, 1e-3}, std::vector<double>{1e6, 1, 999.5});
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  Mixture mixture(weights);
  double furthest = 0;
  for (int n = 1; n <= 10007; ++n) {
    mixture.next();
    for (size_t i = 0; i < weights.size(); ++i) {
      const double share = n * weights[i] / sum;
      furthest = std::max(furthest, std::abs(share - static_cast<double>(mixture.given()[i])));
    }
  }
  CHECK(furthest < 1);
}

TEST_CASE("mixture: equal sources take turns and a source of weight 0 never comes") {
  Mixture mixture({2, 0, 2});
  std::vector<size_t> sources;
  for (int i = 0; i < 5; ++i) sources.push_back(mixture.next());
  CHECK(sources == std::vector<size_t>{0, 2, 0, 2, 0});
}

TEST_CASE("mixture: a restored mixture goes on exactly") {
  Mixture whole({0.5, 0.3, 0.2});
  for (int i = 0; i < 37; ++i) whole.next();
  Mixture restored({0.5, 0.3, 0.2});
  restored.restore(whole.given());
  for (int i = 0; i < 100; ++i) REQUIRE(restored.next() == whole.next());
}

TEST_CASE("mixture: weights that can't be shares are refused") {
  CHECK_THROWS(Mixture({0, 0}));
  CHECK_THROWS(Mixture({1, -1}));
  CHECK_THROWS(Mixture({1, NAN}));
}
