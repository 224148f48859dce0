// The SSD scan at extreme decays and in low precision.
#include <cmath>

#include <ATen/ops/isfinite.h>

#include "ops/ssd.h"
#include "support/catch.h"
#include "support/ssd_case.h"

using namespace transxssm;

namespace {

bool all_finite(const SsdOutcome& outcome) {
  for (const auto& [name, tensor] : outcome.tensors)
    if (!at::isfinite(tensor).all().item<bool>()) return false;
  return true;
}

// A realistic case: head width 16, Δ around 0.05, documents in one row.
SsdCase realistic_case() {
  SsdCase c = f64_ssd_case({2, 16, 16, 2, 64}, documents_at({{}, {100, 163}}, 257));
  c.rope = f64_rope(257, 16, 10000);
  c.d_skip = f64_parameter("d_skip", {2}, 5);
  c.initial_state = f64_tensor({2, 2, 16, 16}, 9);
  const at::NoGradGuard no_grad;
  c.dt_bias->weight.sub_(3);
  return c;
}

}  // namespace

TEST_CASE("ssd: extreme time steps and decays give finite values that equal the recurrence", "[ops]") {
  const double tau = GENERATE(-50.0, -20.0, 0.0, 20.0, 50.0);
  const double a = GENERATE(1e-6, 1e-3, 1.0, 16.0, 1e3);
  CAPTURE(tau, a);
  SsdCase c = f64_ssd_case({2, 3, 4, 2, 16}, documents_at({{20}}, 41));
  c.rope = f64_rope(41, 4);
  c.initial_state = f64_tensor({1, 2, 3, 4}, 9);
  {
    const at::NoGradGuard no_grad;
    c.packed.narrow(2, c.packed.size(2) - 2, 2).add_(tau);
    c.a_log->weight.fill_(std::log(a));
  }
  const auto [dy, dfinal] = ssd_cotangents(c);
  const SsdOutcome exact = ssd_outcome(c, dy, dfinal, /*sequential=*/true);
  require_same_outcome(ssd_outcome(c, dy, dfinal), exact, 1e-10);

  const SsdCase single = converted(c, at::kFloat);
  const SsdOutcome f32 = ssd_outcome(single, dy, dfinal);
  REQUIRE(all_finite(f32));
  // Decays of sums near −1e5 carry a relative error of 1e5 · 2⁻²⁴ in f32, but then nothing is left of them.
  REQUIRE(rms_error(f32["y"], exact["y"]) <= 1e-5);
  REQUIRE(rms_error(f32["d packed"], exact["d packed"]) <= 1e-4);
}

TEST_CASE("ssd: one enormous step inside a chunk wipes the state, exactly", "[ops]") {
  SsdCase c =
      converted(f64_ssd_case({1, 8, 8, 1, 32}, ops::one_document_per_row(1, 64, at::kCPU)), at::kFloat);
  c.initial_state = f64_tensor({1, 1, 8, 8}, 9).to(at::kFloat);
  {
    const at::NoGradGuard no_grad;
    c.a_log->weight.fill_(std::log(16.0));
    c.packed[0][40][c.packed.size(2) - 1] = 1000;  // Δ = 1000, decay e^{−16000}
  }
  const at::Tensor y = c.run().y_btw;
  SsdCase changed = c;
  changed.packed = c.packed.clone();
  changed.packed.narrow(1, 0, 40).narrow(2, 0, 24).mul_(7);
  const at::Tensor after = changed.run().y_btw;
  REQUIRE(at::isfinite(y).all().item<bool>());
  REQUIRE(same_bits(after.narrow(1, 40, 24), y.narrow(1, 40, 24)));
}

TEST_CASE("ssd: outliers in X stay finite, and without C only the skip is left", "[ops]") {
  SsdCase c = converted(realistic_case(), at::kFloat);
  const int64_t cb_columns = 2 * 2 * 16, x_columns = 2 * 16;
  const at::Tensor x = c.packed.narrow(2, cb_columns, x_columns);
  const auto [dy, dfinal] = ssd_cotangents(c);
  x.select(1, 77).mul_(1e3);
  REQUIRE(all_finite(ssd_outcome(c, dy, dfinal)));
  c.packed.narrow(2, 0, cb_columns / 2).zero_();
  const SsdOutcome outcome = ssd_outcome(c, dy, dfinal);
  REQUIRE(all_finite(outcome));
  const at::Tensor skip = c.d_skip->weight.detach().repeat_interleave(16);
  REQUIRE(max_abs_diff(outcome["y"], x * skip) == 0);
}

TEST_CASE("ssd: f32 is close to f64", "[ops]") {
  const SsdCase c = converted(realistic_case(), at::kFloat);
  const SsdCase same_in_f64 = converted(c, at::kDouble);
  const auto [dy, dfinal] = ssd_cotangents(c);
  const SsdOutcome f32 = ssd_outcome(c, dy, dfinal), f64 = ssd_outcome(same_in_f64, dy, dfinal);
  // All-f32 arithmetic loses 2e-7 to 6e-6 (design: kernels, numerics).
  for (const auto& [name, exact] : f64.tensors) {
    CAPTURE(name);
    REQUIRE(rms_error(f32[name], exact) <= 1e-5);
  }
}

TEST_CASE("ssd: bf16 input is close to f64 on the same numbers", "[ops]") {
  const SsdCase c = converted(realistic_case(), at::kBFloat16);
  const SsdCase same_in_f64 = converted(c, at::kDouble);
  auto [dy, dfinal] = ssd_cotangents(c);
  dy = dy.to(at::kBFloat16);
  const SsdOutcome bf16 = ssd_outcome(c, dy, dfinal), f64 = ssd_outcome(same_in_f64, dy, dfinal);
  REQUIRE(bf16["y"].scalar_type() == at::kBFloat16);
  REQUIRE(bf16["final state"].scalar_type() == at::kFloat);
  REQUIRE(bf16["d packed"].scalar_type() == at::kBFloat16);
  // Rounding the results to bf16 costs 1.7e-3; the limits are those that kernels have to meet.
  for (const auto& [name, exact] : f64.tensors) {
    CAPTURE(name);
    REQUIRE(rms_error(bf16[name], exact) <= 6e-3);
  }
  // The gradient of the decays is formed in f32 and reaches A_log without rounding.
  REQUIRE(rms_error(bf16["d a_log"], f64["d a_log"]) <= 1e-4);
}

TEST_CASE("ssd_step: bf16 input is close to f64 and its state is f32", "[ops]") {
  const SsdCase c = converted(realistic_case(), at::kBFloat16);
  const SsdCase exact = converted(c, at::kDouble);
  at::Tensor state = c.initial_state->clone(), exact_state = exact.initial_state->clone();
  const at::Tensor positions = c.documents.positions.select(1, 50);
  const auto step = [&](const SsdCase& s, at::Tensor& its_state) {
    return ops::ssd_step(s.dims, s.packed.select(1, 50), s.a_log, s.dt_bias, s.d_skip, s.rope_table(),
                         positions, its_state);
  };
  REQUIRE(rms_error(step(c, state), step(exact, exact_state)) <= 6e-3);
  REQUIRE(rms_error(state, exact_state) <= 1e-6);
}
