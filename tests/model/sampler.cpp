// Sampling: the options do what their names say, and a seed fixes the draw.
#include "model/sampler.h"

#include <ATen/ATen.h>

#include "support/catch.h"

using namespace transxssm;

namespace {

std::vector<int64_t> counts(const SamplingOptions& options, const at::Tensor& logits, int draws) {
  Sampler sampler(options);
  std::vector<int64_t> result(static_cast<size_t>(logits.numel()));
  for (int i = 0; i < draws; ++i) ++result[static_cast<size_t>(sampler.next(logits))];
  return result;
}

}  // namespace

TEST_CASE("sampler: temperature 0 takes the most likely token, the lowest id among equals") {
  Sampler greedy({.temperature = 0});
  REQUIRE(greedy.next(at::tensor({0.5f, 2.0f, 2.0f, -1.0f})) == 1);
}

TEST_CASE("sampler: draws follow softmax of logits over temperature") {
  const auto logits = at::tensor({0.0f, 1.0f, 2.0f});
  const double temperature = GENERATE(0.5, 1.0);
  const auto expected = at::softmax(logits.to(at::kDouble) / temperature, 0);
  const int draws = 20000;
  const auto drawn = counts({.temperature = temperature}, logits, draws);
  for (int i = 0; i < 3; ++i) {
    const double p = expected[i].item<double>();
    const double sigma = std::sqrt(p * (1 - p) * draws);
    REQUIRE(std::abs(static_cast<double>(drawn[static_cast<size_t>(i)]) - p * draws) < 5 * sigma);
  }
}

TEST_CASE("sampler: top_k and top_p cut the tail") {
  const auto logits = at::tensor({3.0f, 2.0f, 1.0f, 0.0f});  // p = 0.64, 0.24, 0.09, 0.03
  const auto two = counts({.top_k = 2}, logits, 2000);
  REQUIRE((two[0] > 0 && two[1] > 0 && two[2] == 0 && two[3] == 0));
  const auto nucleus = counts({.top_p = 0.9}, logits, 2000);  // 0.64 + 0.24 < 0.9, so three stay
  REQUIRE((nucleus[2] > 0 && nucleus[3] == 0));
  const auto first = counts({.top_p = 0.1}, logits, 200);
  REQUIRE(first[0] == 200);
}

TEST_CASE("sampler: a seed fixes the draws") {
  const auto logits = at::zeros({50});
  Sampler a({.seed = 3}), b({.seed = 3}), c({.seed = 4});
  bool differs = false;
  for (int i = 0; i < 20; ++i) {
    const auto drawn = a.next(logits);
    REQUIRE(drawn == b.next(logits));
    differs = differs || drawn != c.next(logits);
  }
  REQUIRE(differs);
}
