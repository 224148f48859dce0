// Initial values: what they depend on, and their distributions.
#include "optim/init.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <ATen/Parallel.h>

#include "optim/sample_specs.h"
#include "support/catch.h"
#include "support/compare.h"

using namespace transxssm;

namespace {

std::vector<float> draw(const Init& init, int64_t count, const std::string& name = "w", uint64_t seed = 1) {
  std::vector<float> values(static_cast<size_t>(count));
  initial_values(init, name, seed, 0, values);
  return values;
}

std::map<std::string, at::Tensor> by_name(const FlatParameters& parameters) {
  std::map<std::string, at::Tensor> result;
  for (const LogicalView& tensor : parameters.logical()) result[tensor.name] = tensor.weight;
  return result;
}

double mean(const std::vector<float>& x) {
  double sum = 0;
  for (const float value : x) sum += value;
  return sum / static_cast<double>(x.size());
}

double standard_deviation(const std::vector<float>& x) {
  const double centre = mean(x);
  double sum = 0;
  for (const float value : x) sum += (value - centre) * (value - centre);
  return std::sqrt(sum / static_cast<double>(x.size()));
}

}  // namespace

TEST_CASE("init: values don't depend on packing or on the order of parameters", "[optim]") {
  const Init normal{Init::Kind::normal, 0.02, 0};
  auto reordered = sample_specs();
  std::reverse(reordered.begin(), reordered.end());
  for (auto& spec : reordered)
    if (spec.name == "mixer.in") spec = one_part("c", ParameterKind::matrix, {3, 7}, false, normal);
  reordered.push_back(one_part("dt", ParameterKind::vector, {8, 7}, true, normal));

  FlatParameters packed(sample_specs(), at::kCPU, at::kFloat);
  FlatParameters separate(reordered, at::kCPU, at::kBFloat16);
  initialize(packed, 5);
  initialize(separate, 5);
  const auto other = by_name(separate);
  for (const auto& [name, weight] : by_name(packed)) {
    INFO(name);
    REQUIRE(same_bits(weight, other.at(name)));
  }
}

TEST_CASE("init: values don't depend on the number of threads or on where a range starts", "[optim]") {
  const int64_t n = 100003;
  const std::vector<ParameterSpec> specs{
      one_part("w", ParameterKind::matrix, {n}, true, {Init::Kind::normal, 1, 0})};
  FlatParameters one(specs, at::kCPU, at::kFloat), several(specs, at::kCPU, at::kFloat);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  initialize(one, 3);
  at::set_num_threads(3);
  initialize(several, 3);
  at::set_num_threads(threads);
  REQUIRE(same_bits(one.logical()[0].weight, several.logical()[0].weight));

  for (const auto kind : {Init::Kind::normal, Init::Kind::uniform}) {
    const Init init{kind, 1, 2};
    const auto whole = draw(init, 101);
    std::vector<float> tail(33);
    initial_values(init, "w", 1, 68, tail);
    REQUIRE(std::equal(tail.begin(), tail.end(), whole.begin() + 68));
  }
}

TEST_CASE("init: seed and name both change the values", "[optim]") {
  const Init normal{Init::Kind::normal, 1, 0};
  REQUIRE(draw(normal, 8, "w", 1) == draw(normal, 8, "w", 1));
  REQUIRE(draw(normal, 8, "w", 1) != draw(normal, 8, "w", 2));
  REQUIRE(draw(normal, 8, "w", 1) != draw(normal, 8, "x", 1));
}

TEST_CASE("init: a truncated normal has its mean, deviation and bounds", "[optim]") {
  const int64_t n = 1 << 20;
  const auto x = draw({Init::Kind::normal, 0.02, 0}, n);
  // Standard deviation of a normal cut at 3 sigma: sqrt(1 - 6 phi(3) / (1 - 2 Phi(-3))) = 0.986578 sigma.
  const double expected = 0.02 * 0.986578;
  REQUIRE(std::abs(mean(x)) < 4 * expected / std::sqrt(n));
  REQUIRE(std::abs(standard_deviation(x) / expected - 1) < 4 / std::sqrt(2.0 * n));
  const auto [least, greatest] = std::minmax_element(x.begin(), x.end());
  REQUIRE(*greatest < 0.06f);
  REQUIRE(*greatest > 0.0598f);
  REQUIRE(*least > -0.06f);
  REQUIRE(*least < -0.0598f);
}

TEST_CASE("init: a truncated normal is normal at every quantile", "[optim]") {
  auto x = draw({Init::Kind::normal, 1, 0}, 1 << 20);
  std::sort(x.begin(), x.end());
  const auto phi = [](double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); };
  const auto n = static_cast<double>(x.size());
  double largest = 0;  // Kolmogorov-Smirnov distance; 1.95 / sqrt(n) has probability 0.001
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = (phi(x[i]) - phi(-3)) / (phi(3) - phi(-3));
    largest = std::max(largest, std::abs(exact - (static_cast<double>(i) + 0.5) / n));
  }
  REQUIRE(largest < 1.95 / std::sqrt(n));
}

TEST_CASE("init: A_log and dt_bias fill their ranges", "[optim]") {
  const auto a_log = draw({Init::Kind::log_uniform, 1, 16}, 10007);
  double sum = 0, least = 100, greatest = 0;
  for (const float value : a_log) {
    const double a = std::exp(static_cast<double>(value));
    sum += a;
    least = std::min(least, a);
    greatest = std::max(greatest, a);
  }
  REQUIRE((least >= 1 - 1e-6 && least < 1.02));
  REQUIRE((greatest <= 16 + 1e-5 && greatest > 15.98));
  REQUIRE(std::abs(sum / 10007 - 8.5) < 0.2);  // A is uniform

  const auto dt_bias = draw({Init::Kind::inv_softplus, 1e-3, 1e-1}, 10007);
  double sum_log = 0;
  for (const float value : dt_bias) {
    const double delta = std::log1p(std::exp(static_cast<double>(value)));
    REQUIRE((delta >= 1e-3 * (1 - 1e-5) && delta <= 1e-1 * (1 + 1e-5)));
    sum_log += std::log10(delta);
  }
  REQUIRE(std::abs(sum_log / 10007 + 2) < 0.03);  // delta is log-uniform: its geometric mean is 1e-2
}

TEST_CASE("init: constants and uniform values", "[optim]") {
  for (const float value : draw({Init::Kind::constant, 1, 0}, 5)) REQUIRE(value == 1.0f);
  const auto x = draw({Init::Kind::uniform, -0.5, 0.5}, 10007);
  REQUIRE(std::abs(mean(x)) < 0.01);
  REQUIRE(*std::max_element(x.begin(), x.end()) > 0.49f);
  REQUIRE(*std::min_element(x.begin(), x.end()) < -0.49f);
}
