// The AdamW kernel against the formula in fp64 and against the CPU.
#include <cmath>

#include "ops/adamw.h"
#include "ops/adamw_inputs.h"
#include "support/catch.h"
#include "support/compare.h"

using namespace transxssm;

namespace {

const ops::AdamWOptions kOptions{.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};

AdamWBuffers on_gpu(const AdamWBuffers& b) {
  AdamWBuffers copy = b.clone();
  copy.to_cuda();
  return copy;
}

}  // namespace

TEST_CASE("adamw on CUDA: equals the formula, and the CPU within rounding", "[ops][cuda]") {
  const int64_t n = GENERATE(0, 1, 7, 8, 9, 2047, 2048, 2049, 3000017);  // a block covers 2048
  const int64_t t = GENERATE(1, 2, 100000);
  const AdamWBuffers before(n, at::kFloat, true);
  const AdamWBuffers gpu = on_gpu(before);
  const AdamWBuffers cpu = before.clone();
  run_adamw(kOptions, adamw_control(1e-3, t, 0.5, true, at::kCUDA), gpu);
  run_adamw(kOptions, adamw_control(1e-3, t, 0.5), cpu);
  const AdamWBuffers exact = adamw_in_f64(kOptions, adamw_control(1e-3, t, 0.5), before);

  // The same roundings as on the CPU at most (fused multiply-add saves some); twice that against each other.
  const double rounding = 0x1p-24;
  const double update = max_abs_diff(exact.master, before.master);
  const double bar = rounding * max_abs(exact.master) + 12 * rounding * update;
  REQUIRE(max_abs_diff(gpu.m, exact.m) <= 4 * rounding * max_abs(exact.m));
  REQUIRE(max_abs_diff(gpu.v, exact.v) <= 6 * rounding * max_abs(exact.v));
  REQUIRE(max_abs_diff(gpu.master, exact.master) <= bar);
  REQUIRE(max_abs_diff(gpu.master, cpu.master) <= 2 * bar);
  REQUIRE(same_bits(gpu.compute, gpu.master.to(at::kBFloat16)));
  REQUIRE(same_bits(gpu.grad, before.grad));
}

TEST_CASE("adamw on CUDA: repeated runs give the same bits", "[ops][cuda]") {
  const AdamWBuffers before(1000003, at::kFloat, true);
  const AdamWBuffers first = on_gpu(before);
  const auto control = adamw_control(1e-3, 7, 0.5, true, at::kCUDA);
  run_adamw(kOptions, control, first);
  for (int i = 0; i < 3; ++i) {
    const AdamWBuffers again = on_gpu(before);
    run_adamw(kOptions, control, again);
    REQUIRE(same_bits(again.master, first.master));
    REQUIRE(same_bits(again.v, first.v));
  }
}

TEST_CASE("adamw on CUDA: works without a compute copy and on a part of a buffer", "[ops][cuda]") {
  const AdamWBuffers before(1000, at::kFloat);
  const AdamWBuffers whole = on_gpu(before), part = on_gpu(before);
  const auto control = adamw_control(1e-3, 7, 1.0, true, at::kCUDA);
  run_adamw(kOptions, control, whole);
  const auto tail = [](const at::Tensor& x) { return x.slice(0, 128); };
  ops::adamw(kOptions, control, tail(part.master), tail(part.m), tail(part.v), tail(part.grad), {});
  REQUIRE(same_bits(tail(part.master), tail(whole.master)));
  REQUIRE(same_bits(part.master.slice(0, 0, 128), before.master.slice(0, 0, 128)));
}

TEST_CASE("adamw on CUDA: without `apply` no bit changes", "[ops][cuda]") {
  const AdamWBuffers before(1009, at::kFloat, true);
  const AdamWBuffers b = on_gpu(before);
  b.grad.fill_(NAN);
  run_adamw(kOptions, adamw_control(1e-3, 0, NAN, false, at::kCUDA), b);
  for (const auto part : {&AdamWBuffers::master, &AdamWBuffers::m, &AdamWBuffers::v, &AdamWBuffers::compute})
    REQUIRE(same_bits(b.*part, before.*part));
}

TEST_CASE("adamw on CUDA: a misaligned buffer is refused, not misread", "[ops][cuda]") {
  const AdamWBuffers b = on_gpu(AdamWBuffers(9, at::kFloat));
  const auto odd = [](const at::Tensor& x) { return x.slice(0, 1); };
  REQUIRE_THROWS(ops::adamw(kOptions, adamw_control(1e-3, 1, 1.0, true, at::kCUDA), odd(b.master), odd(b.m),
                            odd(b.v), odd(b.grad), {}));
}
