// Promises of sampling: the distribution, its cuts, and independence of rows.
#include "model/sampler.h"

#include <cmath>

#include <ATen/ATen.h>

#include "core/rng.h"
#include "support/catch.h"

using namespace transxssm;

namespace {

at::Tensor uniforms(int64_t count, uint64_t seed) {
  const Philox random(seed);
  const at::Tensor out = at::empty({count}, at::kDouble);
  for (int64_t i = 0; i < count; ++i)
    out.mutable_data_ptr<double>()[i] = random.uniform(static_cast<uint64_t>(i));
  return out;
}

// How often each token was drawn, in one batch of `draws` rows.
at::Tensor counts(const SamplingOptions& options, const at::Tensor& logits_v, int64_t draws) {
  const auto drawn = sample(logits_v.expand({draws, -1}), options, uniforms(draws, 5));
  return at::bincount(drawn, {}, logits_v.size(0));
}

}  // namespace

TEST_CASE("sampler: temperature 0 takes the most likely token, the lowest id among equals") {
  const auto logits = at::tensor({0.5f, 2.0f, 2.0f, -1.0f, 3.0f, 0.0f, 3.0f, 3.0f}).view({2, 4});
  REQUIRE(at::equal(sample(logits, {.temperature = 0}, {}), at::tensor({1, 0}, at::kLong)));
}

TEST_CASE("sampler: draws follow softmax of logits over temperature") {
  const auto logits = at::tensor({0.0f, 1.0f, 2.0f});
  const double temperature = GENERATE(0.5, 1.0);
  const auto expected = at::softmax(logits.to(at::kDouble) / temperature, 0);
  const int64_t draws = 20000;
  const auto drawn = counts({.temperature = temperature}, logits, draws);
  for (int i = 0; i < 3; ++i) {
    const double p = expected[i].item<double>();
    const double sigma = std::sqrt(p * (1 - p) * static_cast<double>(draws));
    REQUIRE(std::abs(drawn[i].item<double>() - p * static_cast<double>(draws)) < 5 * sigma);
  }
}

TEST_CASE("sampler: top_k and top_p cut the tail") {
  const auto logits = at::tensor({3.0f, 2.0f, 1.0f, 0.0f});  // p = 0.64, 0.24, 0.09, 0.03
  const auto two = counts({.top_k = 2}, logits, 2000);
  REQUIRE((two.narrow(0, 0, 2).gt(0).all().item<bool>() && two.narrow(0, 2, 2).eq(0).all().item<bool>()));
  const auto nucleus = counts({.top_p = 0.9}, logits, 2000);  // 0.64 + 0.24 < 0.9, so three stay
  REQUIRE((nucleus[2].item<int64_t>() > 0 && nucleus[3].item<int64_t>() == 0));
  REQUIRE(counts({.top_p = 0.1}, logits, 200)[0].item<int64_t>() == 200);
  REQUIRE(counts({.top_p = 0}, logits, 200)[0].item<int64_t>() == 200);
  REQUIRE(counts({.top_k = 100}, logits, 2000).gt(0).all().item<bool>());
}

TEST_CASE(
    "sampler: the smallest and the largest number draw the most and the least likely token that is left") {
  const auto logits = at::tensor({1.0f, 3.0f, 2.0f}).expand({2, -1});
  const auto drawn = sample(logits, {.top_k = 2}, at::tensor({1e-300, 1 - 1e-16}, at::kDouble));
  REQUIRE(at::equal(drawn, at::tensor({1, 2}, at::kLong)));
}

TEST_CASE("sampler: a row draws the same whatever the other rows are") {
  const auto logits = at::randn({7, 50}, at::detail::createCPUGenerator(3));
  const auto random = uniforms(7, 9);
  const SamplingOptions options{.temperature = 0.8, .top_k = 40, .top_p = 0.95};
  const auto together = sample(logits, options, random);
  for (int64_t b = 0; b < 7; ++b)
    REQUIRE(
        at::equal(sample(logits.narrow(0, b, 1), options, random.narrow(0, b, 1)), together.narrow(0, b, 1)));
}
