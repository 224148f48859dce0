#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <ATen/ops/arange.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/outer.h>

#include "core/check.h"

namespace transxssm {
namespace {

// YaRN keeps wavelengths that turn at least beta_fast times in the original context, stretches those that
// turn at most beta_slow times, and blends linearly over the dimensions in between.
void apply_yarn(const RopeConfig& c, double base, RopeFrequencies& out) {
  const auto half = static_cast<double>(out.theta.size());
  const auto dimension_of = [&](double turns) {
    return half * std::log(static_cast<double>(c.original_max_position) / (turns * 2 * std::numbers::pi)) /
           std::log(base);
  };
  const double low = std::max(std::floor(dimension_of(c.beta_fast)), 0.0);
  const double high = std::min(std::ceil(dimension_of(c.beta_slow)), 2 * half - 1);
  const double span = std::max(high - low, 1e-3);
  for (size_t k = 0; k < out.theta.size(); ++k) {
    const double stretched = std::clamp((static_cast<double>(k) - low) / span, 0.0, 1.0);
    out.theta[k] *= stretched / c.factor + (1 - stretched);
  }
  out.attention_factor = c.attention_factor > 0 ? c.attention_factor : 0.1 * std::log(c.factor) + 1;
}

void apply_llama3(const RopeConfig& c, RopeFrequencies& out) {
  const auto context = static_cast<double>(c.original_max_position);
  for (double& theta : out.theta) {
    const double turns = context * theta / (2 * std::numbers::pi);  // in the original context
    const double kept =
        std::clamp((turns - c.low_freq_factor) / (c.high_freq_factor - c.low_freq_factor), 0.0, 1.0);
    theta *= kept + (1 - kept) / c.factor;
  }
}

}  // namespace

RopeFrequencies rope_frequencies(const RopeConfig& config, int64_t width) {
  expect(width > 0 && width % 2 == 0, concat("rope: width must be even and positive, got ", width));
  const auto w = static_cast<double>(width);
  double base = config.theta;
  if (config.scaling == RopeScaling::ntk) base *= std::pow(config.factor, w / (w - 2));
  RopeFrequencies out;
  for (int64_t k = 0; k < width / 2; ++k)
    out.theta.push_back(std::pow(base, -2.0 * static_cast<double>(k) / w));
  switch (config.scaling) {
    case RopeScaling::none:
    case RopeScaling::ntk:
      break;
    case RopeScaling::linear:
      for (double& theta : out.theta) theta /= config.factor;
      break;
    case RopeScaling::yarn:
      apply_yarn(config, base, out);
      break;
    case RopeScaling::llama3:
      apply_llama3(config, out);
      break;
  }
  return out;
}

ops::RopeTable make_rope_table(const RopeConfig& config, int64_t width, int64_t positions,
                               at::Device device) {
  auto frequencies = rope_frequencies(config, width);
  const auto theta = at::from_blob(frequencies.theta.data(), {width / 2}, at::kDouble);
  const auto angle = at::outer(at::arange(positions, at::kDouble), theta);
  const double factor = frequencies.attention_factor;
  return {angle.cos().mul_(factor).to(device, at::kFloat), angle.sin().mul_(factor).to(device, at::kFloat)};
}

}  // namespace transxssm
