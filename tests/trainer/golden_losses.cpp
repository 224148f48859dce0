// The losses that tiny models had when this was written: what silently changes training shows here, as
// initial values, data order, schedule or an operator would. A change that is meant to change them brings its
// own.
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "support/catch.h"
#include "support/tiny_run.h"
#include "trainer/launch.h"

using namespace transxssm;
using namespace transxssm::test;

TEST_CASE("train: losses are those recorded, for every architecture") {
  // Of steps 1, 10, 20 and 30.
  const std::map<std::string, std::vector<double>> golden{
      {"transxssm", {4.13495, 3.67995, 3.06648, 2.65050}},
      {"transformer", {4.21474, 3.89618, 3.52429, 2.96596}},
      {"mamba2", {4.13562, 3.66048, 3.03640, 2.70283}},
      {"hybrid-plain", {4.12654, 3.63372, 2.98325, 2.64550}},
  };
  // Two threads instead of one, and SSE instead of AVX-512, left all of these digits as they are.
  constexpr double kRounding = 5e-5;
  const TinyRun tiny;
  for (const auto& [architecture, expected] : golden) {
    CAPTURE(architecture);
    auto config = tiny.config(architecture, architecture);
    config.train.max_steps = 30;
    config.validation.every = 1000;
    REQUIRE(launch_training(config, {}) == 0);
    const auto rows = metric_rows(config.train.run_dir);
    std::vector<double> losses;
    for (const size_t step : {1, 10, 20, 30}) losses.push_back(rows.at(step - 1).at("loss"));
    CAPTURE(losses);
    for (size_t i = 0; i < expected.size(); ++i)
      REQUIRE(std::abs(losses[i] - expected[i]) <= kRounding * expected[i]);
  }
}
