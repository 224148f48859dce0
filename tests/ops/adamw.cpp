// AdamW on a CPU against its formula.
#include "ops/adamw.h"

#include <cmath>

#include <ATen/Parallel.h>

#include "ops/adamw_inputs.h"
#include "support/catch.h"
#include "support/compare.h"

using namespace transxssm;

namespace {

const ops::AdamWOptions kOptions{.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};

at::Tensor numbers(std::initializer_list<double> values) {
  const at::Tensor out = at::full({static_cast<int64_t>(values.size())}, 0.0, at::TensorOptions(at::kDouble));
  std::copy(values.begin(), values.end(), out.mutable_data_ptr<double>());
  return out;
}

}  // namespace

TEST_CASE("adamw: the first step moves every weight by lr against its gradient's sign", "[ops]") {
  // m / (1 - beta1) = g and v / (1 - beta2) = g^2, so the update is lr g / (|g| + eps).
  AdamWBuffers b(3, at::kDouble);
  b.master = numbers({1.0, -2.0, 0.5});
  b.m.zero_();
  b.v.zero_();
  b.grad = numbers({4.0, -0.5, 0.0});
  run_adamw({.eps = 1e-12}, adamw_control(0.25, 1, 1.0), b);
  REQUIRE(max_abs_diff(b.master, numbers({0.75, -1.75, 0.5})) < 1e-11);
  REQUIRE(max_abs_diff(b.m, numbers({0.4, -0.05, 0.0})) < 1e-15);
  REQUIRE(max_abs_diff(b.v, numbers({0.8, 0.0125, 0.0})) < 1e-15);
}

TEST_CASE("adamw: f64 follows the formula over many steps", "[ops]") {
  AdamWBuffers b(101, at::kDouble);
  AdamWBuffers expected = b.clone();
  for (int64_t t = 1; t <= 20; ++t) {
    expected.grad = f64_tensor({101}, static_cast<uint64_t>(100 + t));
    b.grad = expected.grad.clone();
    const auto control = adamw_control(0.0078125, t, 0.75);
    run_adamw(kOptions, control, b);
    expected = adamw_in_f64(kOptions, control, expected);
  }
  REQUIRE(max_abs_diff(b.master, expected.master) < 1e-13);
  REQUIRE(max_abs_diff(b.v, expected.v) < 1e-13);
}

TEST_CASE("adamw: f32 loses a few roundings of the formula", "[ops]") {
  const int64_t n = GENERATE(1, 3, 4, 5, 16384, 40009);
  const int64_t t = GENERATE(1, 2, 100000);
  const AdamWBuffers before(n, at::kFloat);
  const AdamWBuffers b = before.clone();
  const auto control = adamw_control(1e-3, t, 0.5);
  run_adamw(kOptions, control, b);
  const AdamWBuffers exact = adamw_in_f64(kOptions, control, before);
  const double rounding = 0x1p-24;
  REQUIRE(max_abs_diff(b.m, exact.m) <= 4 * rounding * max_abs(exact.m));
  REQUIRE(max_abs_diff(b.v, exact.v) <= 6 * rounding * max_abs(exact.v));
  // The update, bounded by its largest value, carries about ten roundings; the weight itself one.
  const double update = max_abs_diff(exact.master, before.master);
  REQUIRE(max_abs_diff(b.master, exact.master) <= rounding * max_abs(exact.master) + 12 * rounding * update);
}

TEST_CASE("adamw: weight decay is decoupled: it neither enters the moments nor is scaled by them", "[ops]") {
  AdamWBuffers with = AdamWBuffers(57, at::kDouble), without = with.clone();
  const at::Tensor before = with.master.clone();
  const auto control = adamw_control(0.125, 3, 1.0);
  run_adamw({.weight_decay = 0.25}, control, with);
  run_adamw({.weight_decay = 0.0}, control, without);
  REQUIRE(same_bits(with.m, without.m));
  REQUIRE(same_bits(with.v, without.v));
  REQUIRE(max_abs_diff(without.master - with.master, before * (0.125 * 0.25)) < 1e-15);
}

TEST_CASE("adamw: without `apply` no bit changes", "[ops]") {
  const AdamWBuffers before(1009, at::kFloat, true);
  const AdamWBuffers b = before.clone();
  b.grad.fill_(NAN);
  run_adamw(kOptions, adamw_control(1e-3, 0, NAN, false), b);
  for (const auto part : {&AdamWBuffers::master, &AdamWBuffers::m, &AdamWBuffers::v, &AdamWBuffers::compute})
    REQUIRE(same_bits(b.*part, before.*part));
}

TEST_CASE("adamw: the compute copy is the new master rounded to nearest even, the gradient is left alone",
          "[ops]") {
  const AdamWBuffers before(1009, at::kFloat, true);
  const AdamWBuffers b = before.clone();
  run_adamw(kOptions, adamw_control(1e-2, 5, 1.0), b);
  REQUIRE(same_bits(b.compute, b.master.to(at::kBFloat16)));
  REQUIRE(same_bits(b.grad, before.grad));
}

TEST_CASE("adamw: the number of threads changes no bit", "[ops]") {
  const AdamWBuffers one(100003, at::kFloat), three = one.clone();
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  run_adamw(kOptions, adamw_control(1e-2, 5, 1.0), one);
  at::set_num_threads(3);
  run_adamw(kOptions, adamw_control(1e-2, 5, 1.0), three);
  at::set_num_threads(threads);
  REQUIRE(same_bits(one.master, three.master));
}

TEST_CASE("adamw: buffers that don't belong together are refused", "[ops]") {
  const AdamWBuffers good(8, at::kFloat, true);
  const auto control = adamw_control(1e-3, 1, 1.0);
  const auto refused = [&](auto change) {
    AdamWBuffers b = good;
    change(b);
    REQUIRE_THROWS(run_adamw(kOptions, control, b));
  };
  refused([](AdamWBuffers& b) { b.m = b.m.narrow(0, 0, 7); });
  refused([](AdamWBuffers& b) { b.v = b.v.to(at::kDouble); });
  refused([](AdamWBuffers& b) { b.grad = b.grad.to(at::kBFloat16); });
  refused([](AdamWBuffers& b) { b.compute = b.compute.to(at::kFloat); });
  refused([](AdamWBuffers& b) { b.master = b.master.view({2, 4}); });
  auto wrong = control;
  wrong.step = wrong.step.to(at::kInt);
  REQUIRE_THROWS(run_adamw(kOptions, wrong, good));
  REQUIRE_THROWS(run_adamw({.eps = 0}, control, good));
}
