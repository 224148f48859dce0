// The SSD scan on a GPU against f64 on the CPU, on the same numbers.
#include "ops/ssd.h"
#include "support/catch.h"
#include "support/ssd_case.h"

using namespace transxssm;

namespace {

// Two rows with documents, heads of width 64, Δ around 0.05; a ragged last chunk.
SsdCase cuda_case(int64_t groups) {
  SsdCase c = f64_ssd_case({4, 64, 64, groups, 128}, documents_at({{}, {100, 163, 164}}, 321));
  c.rope = f64_rope(321, 64, 10000);
  c.d_skip = f64_parameter("d_skip", {4}, 5);
  c.initial_state = f64_tensor({2, 4, 64, 64}, 9);
  const at::NoGradGuard no_grad;
  c.dt_bias->weight.sub_(3);
  return c;
}

}  // namespace

TEST_CASE("ssd: CUDA results and gradients are close to f64", "[ops][cuda]") {
  const at::ScalarType dtype = GENERATE(at::kFloat, at::kBFloat16);
  const int64_t groups = GENERATE(1, 4);
  CAPTURE(groups);
  const SsdCase gpu = converted(cuda_case(groups), dtype, at::kCUDA);
  auto [dy, dfinal] = ssd_cotangents(gpu);
  dy = dy.to(dtype);
  const SsdOutcome exact = ssd_outcome(converted(gpu, at::kDouble, at::kCPU), dy, dfinal);
  const SsdOutcome actual = ssd_outcome(gpu, dy, dfinal);
  // f32 arithmetic loses 2e-7 to 6e-6. bf16: rounding of inputs is shared, that of the results costs 1.7e-3;
  // the limit is three times what bf16 products with f32 sums would lose.
  const double limit = dtype == at::kFloat ? 1e-5 : 6e-3;
  for (const auto& [name, tensor] : exact.tensors) {
    CAPTURE(name);
    REQUIRE(rms_error(actual[name], tensor) <= limit);
  }
}

TEST_CASE("ssd: two CUDA runs give the same bits", "[ops][cuda]") {
  const SsdCase gpu = converted(cuda_case(4), at::kBFloat16, at::kCUDA);
  const auto [dy, dfinal] = ssd_cotangents(gpu);
  const SsdOutcome first = ssd_outcome(gpu, dy, dfinal), second = ssd_outcome(gpu, dy, dfinal);
  for (const auto& [name, tensor] : first.tensors) {
    CAPTURE(name);
    REQUIRE(same_bits(second[name], tensor));
  }
}

TEST_CASE("ssd_step: CUDA steps are close to f64", "[ops][cuda]") {
  const SsdCase gpu = converted(cuda_case(4), at::kBFloat16, at::kCUDA);
  const SsdCase cpu = converted(gpu, at::kDouble, at::kCPU);
  at::Tensor state = gpu.initial_state->clone(), exact_state = cpu.initial_state->clone();
  const auto step = [](const SsdCase& c, int64_t t, at::Tensor& its_state) {
    return ops::ssd_step(c.dims, c.packed.select(1, t), c.a_log, c.dt_bias, c.d_skip, c.rope_table(),
                         c.documents.positions.select(1, t), its_state);
  };
  for (int64_t t = 0; t < 20; ++t) REQUIRE(rms_error(step(gpu, t, state), step(cpu, t, exact_state)) <= 6e-3);
  REQUIRE(rms_error(state, exact_state) <= 1e-5);
}
