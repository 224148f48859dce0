// Frequencies of every scaling variant against values worked out by hand from the papers' formulas.
#include "model/rope.h"

#include <cmath>

#include <ATen/ATen.h>

#include "support/catch.h"

using namespace transxssm;

TEST_CASE("rope: without scaling θ_k = base^(-2k/width)") {
  const auto f = rope_frequencies({}, 128);
  REQUIRE(f.theta.size() == 64);
  REQUIRE(f.theta[0] == 1.0);
  REQUIRE(f.theta[32] == Approx(0.01).epsilon(1e-14));
  REQUIRE(f.theta[63] == Approx(std::pow(10000.0, -126.0 / 128.0)).epsilon(1e-14));
  REQUIRE(f.attention_factor == 1.0);
}

TEST_CASE("rope: linear scaling divides every frequency") {
  RopeConfig c;
  c.scaling = RopeScaling::linear;
  c.factor = 4;
  REQUIRE(rope_frequencies(c, 64).theta[16] == Approx(0.01 / 4).epsilon(1e-14));
}

TEST_CASE("rope: ntk scaling keeps the fastest and divides the slowest frequency by the factor") {
  RopeConfig c;
  c.scaling = RopeScaling::ntk;
  c.factor = 4;
  const auto plain = rope_frequencies({}, 64);
  const auto ntk = rope_frequencies(c, 64);
  REQUIRE(ntk.theta.front() == 1.0);
  REQUIRE(ntk.theta.back() == Approx(plain.theta.back() / 4).epsilon(1e-12));
}

TEST_CASE("rope: yarn keeps fast, stretches slow frequencies and scales by 0.1 ln(factor) + 1") {
  RopeConfig c;
  c.scaling = RopeScaling::yarn;
  c.factor = 8;
  c.original_max_position = 2048;
  const auto plain = rope_frequencies({}, 128);
  const auto yarn = rope_frequencies(c, 128);
  REQUIRE(yarn.theta[0] == plain.theta[0]);
  REQUIRE(yarn.theta[63] == Approx(plain.theta[63] / 8).epsilon(1e-14));
  // k = 24: 2048 θ / 2π = 10.3 turns, between beta_slow = 1 and beta_fast = 32; ramp from dimension 16 to 41.
  const double stretched = (24.0 - 16.0) / (41.0 - 16.0);
  REQUIRE(yarn.theta[24] == Approx(plain.theta[24] * (stretched / 8 + 1 - stretched)).epsilon(1e-12));
  REQUIRE(yarn.attention_factor == Approx(0.1 * std::log(8.0) + 1).epsilon(1e-14));
  c.attention_factor = 1.5;
  REQUIRE(rope_frequencies(c, 128).attention_factor == 1.5);
}

TEST_CASE("rope: llama3 keeps wavelengths under context / high, stretches those over context / low") {
  RopeConfig c;
  c.theta = 500000;
  c.scaling = RopeScaling::llama3;
  c.factor = 8;
  c.original_max_position = 8192;
  RopeConfig unscaled;
  unscaled.theta = 500000;
  const auto plain = rope_frequencies(unscaled, 128);
  const auto llama = rope_frequencies(c, 128);
  REQUIRE(llama.theta[0] == plain.theta[0]);
  REQUIRE(llama.theta[63] == Approx(plain.theta[63] / 8).epsilon(1e-14));
  for (size_t k = 0; k < 64; ++k) {
    const double turns = 8192 * plain.theta[k] / (2 * M_PI);
    if (turns <= 1 || turns >= 4) continue;
    const double smooth = (turns - 1) / 3;
    REQUIRE(llama.theta[k] ==
            Approx((1 - smooth) * plain.theta[k] / 8 + smooth * plain.theta[k]).epsilon(1e-12));
  }
}

TEST_CASE("rope: table entries are fp64 angles rounded once, also far out") {
  const auto table = make_rope_table({}, 128, 65536, at::kCPU);
  REQUIRE(table.cos.sizes() == at::IntArrayRef{65536, 64});
  const double angle = 65535 * std::pow(10000.0, -2.0 * 5 / 128);
  REQUIRE(table.cos[65535][5].item<float>() == static_cast<float>(std::cos(angle)));
  REQUIRE(table.sin[65535][5].item<float>() == static_cast<float>(std::sin(angle)));
}
