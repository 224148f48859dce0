// The SSD scan's CUDA kernels at extreme time steps, decays and values.
#include <cmath>

#include <ATen/ops/isfinite.h>

#include "ssd_kernel_cases.h"

using namespace transxssm;

namespace {

void require_finite(const SsdOutcome& outcome) {
  for (const auto& [name, tensor] : outcome.tensors) {
    INFO(name);
    REQUIRE(at::isfinite(tensor).all().item<bool>());
  }
}

// Columns of the packed input or its gradient.
at::Tensor c_columns(const ops::SsdDims& d, const at::Tensor& btw) {
  return btw.narrow(2, 0, d.num_groups * 128);
}
at::Tensor b_columns(const ops::SsdDims& d, const at::Tensor& btw) {
  return btw.narrow(2, d.num_groups * 128, d.num_groups * 128);
}
at::Tensor x_columns(const ops::SsdDims& d, const at::Tensor& btw) {
  return btw.narrow(2, 2 * d.num_groups * 128, d.num_heads * 128);
}
at::Tensor tau_columns(const ops::SsdDims& d, const at::Tensor& btw) {
  return btw.narrow(2, (2 * d.num_groups + d.num_heads) * 128, d.num_heads);
}

SsdCase two_head_case(int64_t tokens) {
  SsdCase c = kernel_case(documents_at({{}, {tokens / 3}}, tokens), 2, 2);
  add_rope(c, tokens);
  add_initial_state(c);
  return c;
}

}  // namespace

TEST_CASE("ssd kernels: extreme time steps and decays are finite and close to f64", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const double tau = GENERATE(-50.0, -20.0, 0.0, 20.0, 50.0);
  const double a = GENERATE(1e-6, 1e-3, 1.0, 16.0, 1e3);
  CAPTURE(tau, a);
  SsdCase c = two_head_case(150);
  {
    const at::NoGradGuard no_grad;
    tau_columns(c.dims, c.packed).add_(tau);
    c.a_log->weight.fill_(std::log(a));
  }
  const SsdCase gpu = on_gpu(c);
  const auto [dy, dfinal] = kernel_cotangents(gpu);
  require_finite(ssd_outcome(gpu, dy, dfinal));
  require_close_to_f64(gpu, dy, dfinal);
}

TEST_CASE("ssd kernels: time steps of all sizes side by side are close to f64", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  SsdCase c = two_head_case(300);
  tau_columns(c.dims, c.packed).mul_(8);  // Δ from 1e-11 to 25
  require_close_to_f64(on_gpu(c));
}

TEST_CASE("ssd kernels: one enormous step wipes the state and stops every gradient, exactly", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const int64_t at = GENERATE(1, 63, 64, 77, 127, 128, 199);
  CAPTURE(at);
  SsdCase c = kernel_case(ops::one_document_per_row(2, 200, at::kCPU), 2, 2);
  add_rope(c, 200);
  add_initial_state(c);
  {
    const at::NoGradGuard no_grad;
    c.a_log->weight.fill_(std::log(16.0));
    tau_columns(c.dims, c.packed).select(1, at).fill_(1000);  // Δ = 1000, decay e^{−16000}
  }
  const SsdCase gpu = on_gpu(c);
  auto [dy, dfinal] = kernel_cotangents(gpu);
  dy.narrow(1, 0, at).zero_();  // what is left comes from the step or later
  const SsdOutcome outcome = ssd_outcome(gpu, dy, dfinal);
  require_finite(outcome);
  require_close_to_f64(gpu, dy, dfinal, Outliers::present);
  REQUIRE(max_abs(outcome["d packed"].narrow(1, 0, at)) == 0);
  REQUIRE(max_abs(outcome["d initial state"]) == 0);

  SsdCase changed = copy_of(gpu);
  changed.packed.narrow(1, 0, at).mul_(-3);
  changed.initial_state = *gpu.initial_state * 5;
  const SsdOutcome after = ssd_outcome(changed, dy, dfinal);
  REQUIRE(same_bits(after["y"].narrow(1, at, 200 - at), outcome["y"].narrow(1, at, 200 - at)));
  REQUIRE(same_bits(after["final state"], outcome["final state"]));
  const int64_t used = ops::ssd_packed_columns(c.dims);
  const auto from_step = [&](const SsdOutcome& o) {
    return o["d packed"].narrow(1, at, 200 - at).narrow(2, 0, used);
  };
  REQUIRE(same_bits(from_step(after), from_step(outcome)));
}

TEST_CASE("ssd kernels: without C nothing is read, without B nothing is written", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const bool without_c = GENERATE(false, true);
  CAPTURE(without_c);
  SsdCase c = kernel_case(documents_at({{}, {70}}, 150), 2, 1);
  add_rope(c, 150);
  (without_c ? c_columns(c.dims, c.packed) : b_columns(c.dims, c.packed)).zero_();
  const SsdCase gpu = on_gpu(c);
  const at::Tensor dy = kernel_cotangents(gpu).first;
  const SsdOutcome outcome = ssd_outcome(gpu, dy, at::Tensor());
  require_finite(outcome);
  REQUIRE(max_abs(outcome["y"]) == 0);
  const at::Tensor& d_packed = outcome["d packed"];
  REQUIRE(max_abs(x_columns(c.dims, d_packed)) == 0);
  REQUIRE(max_abs(tau_columns(c.dims, d_packed)) == 0);
  REQUIRE(max_abs(outcome["d a_log"]) == 0);
  REQUIRE(max_abs(without_c ? b_columns(c.dims, d_packed) : c_columns(c.dims, d_packed)) == 0);
  if (!without_c) REQUIRE(max_abs(outcome["final state"]) == 0);
  require_close_to_f64(gpu, dy, at::Tensor());
}

TEST_CASE("ssd kernels: outliers in X and in the output's gradient are close to f64", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  SsdCase c = two_head_case(300);
  add_d_skip(c);
  const at::Tensor x = x_columns(c.dims, c.packed);
  x.select(1, 77).mul_(1e3);
  x.narrow(2, 3, 1).mul_(1e3);
  const SsdCase gpu = on_gpu(c);
  auto [dy, dfinal] = kernel_cotangents(gpu);
  require_finite(ssd_outcome(gpu, dy, dfinal));
  require_close_to_f64(gpu, dy, dfinal, Outliers::present);
  dy.select(1, 200).mul_(1e3);
  require_close_to_f64(gpu, dy, dfinal, Outliers::present);
}
