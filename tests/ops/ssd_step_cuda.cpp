// The decode kernel of the SSD scan (widths 128 × 128) against the recurrence in f64.
#include <utility>
#include <vector>

#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>

#include "ops/ssd.h"
#include "support/catch.h"
#include "support/cuda_graph.h"
#include "support/require_error.h"
#include "support/ssd_case.h"

using namespace transxssm;

namespace {

constexpr int64_t kSteps = 24;

// Every row at its own place in its document; columns after the used ones, so that no row of the packed input
// but the first is aligned.
SsdCase step_case(int64_t batch, int64_t heads, int64_t groups, bool rope, bool d_skip) {
  const ops::SsdDims dims{heads, 128, 128, groups, 64};
  SsdCase c = f64_ssd_case(dims, ops::one_document_per_row(batch, kSteps, at::kCPU));
  c.packed = f64_tensor({batch, kSteps, ops::ssd_packed_columns(dims) + 3}, 3);
  c.documents.positions = c.documents.positions + at::arange(batch, at::kLong).unsqueeze(1) * 7;
  if (rope) c.rope = f64_rope(7 * batch + kSteps, 128, 10000);
  if (d_skip) c.d_skip = f64_parameter("d_skip", {heads}, 5);
  c.initial_state = f64_tensor({batch, heads, 128, 128}, 9);
  const at::NoGradGuard no_grad;
  c.dt_bias->weight.sub_(2);
  return c;
}

at::Tensor step(const SsdCase& c, int64_t t, at::Tensor& state) {
  return ops::ssd_step(c.dims, c.packed.select(1, t), c.a_log, c.dt_bias, c.d_skip, c.rope_table(),
                       c.documents.positions.select(1, t), state);
}

// Outputs of all steps and the state after them.
std::pair<at::Tensor, at::Tensor> decode(const SsdCase& c) {
  at::Tensor state = c.initial_state->clone();
  std::vector<at::Tensor> outputs;
  for (int64_t t = 0; t < kSteps; ++t) outputs.push_back(step(c, t, state));
  return {at::stack(outputs, 1), state};
}

}  // namespace

TEST_CASE("ssd_step on CUDA: outputs and states of many steps are close to f64", "[ops][cuda]") {
  const at::ScalarType dtype = GENERATE(at::kBFloat16, at::kFloat);
  const int64_t batch = GENERATE(1, 32, 33);
  const auto [heads, groups, rope, d_skip] = GENERATE(table<int64_t, int64_t, bool, bool>(
      {{1, 1, true, false}, {3, 3, false, false}, {4, 1, true, true}, {4, 2, true, false}}));
  CAPTURE(dtype, batch, heads, groups, rope, d_skip);
  const SsdCase gpu = converted(step_case(batch, heads, groups, rope, d_skip), dtype, at::kCUDA);
  const auto [exact_y, exact_state] = decode(converted(gpu, at::kDouble, at::kCPU));
  const auto [y, state] = decode(gpu);
  REQUIRE(y.scalar_type() == dtype);
  // Everything is f32 inside, with errors of 1e-7 a step that decay with the state; only a bf16 output is
  // rounded, which costs 1.7e-3.
  REQUIRE(rms_error(state, exact_state) <= 2e-6);
  REQUIRE(rms_error(y, exact_y) <= (dtype == at::kFloat ? 2e-6 : 2.5e-3));
  const int64_t last = batch - 1;  // a mistake in one row must not drown in the others
  REQUIRE(rms_error(state[last], exact_state[last]) <= 2e-6);
}

TEST_CASE("ssd_step on CUDA: repeated runs give the same bits", "[ops][cuda]") {
  const SsdCase c = converted(step_case(33, 4, 2, true, true), at::kBFloat16, at::kCUDA);
  const auto [first_y, first_state] = decode(c);
  const auto [y, state] = decode(c);
  REQUIRE(same_bits(y, first_y));
  REQUIRE(same_bits(state, first_state));
}

TEST_CASE("ssd_step on CUDA: few heads and many heads give the same bits", "[ops][cuda]") {
  // Rows are independent, so a batch of 33 and one of 1 differ only in how the state is cut.
  const SsdCase many = converted(step_case(33, 4, 4, true, false), at::kBFloat16, at::kCUDA);
  SsdCase one = many;
  one.packed = many.packed.narrow(0, 0, 1);
  one.documents.positions = many.documents.positions.narrow(0, 0, 1);
  one.initial_state = many.initial_state->narrow(0, 0, 1);
  const auto [many_y, many_state] = decode(many);
  const auto [one_y, one_state] = decode(one);
  REQUIRE(same_bits(one_y, many_y.narrow(0, 0, 1)));
  REQUIRE(same_bits(one_state, many_state.narrow(0, 0, 1)));
}

TEST_CASE("ssd_step on CUDA: nothing is written beside the state", "[ops][cuda]") {
  const SsdCase c = converted(step_case(2, 3, 3, true, false), at::kBFloat16, at::kCUDA);
  const at::Tensor buffer = at::full({4, 3, 128, 128}, 7.f, c.initial_state->options());
  at::Tensor state = buffer.narrow(0, 1, 2);
  step(c, 0, state);
  for (const int64_t row : {0, 3}) REQUIRE(same_bits(buffer[row], at::full_like(buffer[row], 7.f)));
  REQUIRE(state.ne(7.f).all().item<bool>());
}

TEST_CASE("ssd_step on CUDA: a replayed graph reads positions and state of the moment", "[ops][cuda]") {
  const SsdCase c = converted(step_case(5, 4, 2, true, true), at::kBFloat16, at::kCUDA);
  const auto [exact_y, exact_state] = decode(c);
  SsdCase fixed = c;  // buffers that the graph reads
  fixed.packed = c.packed.narrow(1, 0, 1).clone();
  fixed.documents.positions = c.documents.positions.narrow(1, 0, 1).clone();
  at::Tensor state = c.initial_state->clone(), y;
  CapturedGraph graph([&] { y = step(fixed, 0, state); });
  REQUIRE(same_bits(state, *c.initial_state));
  for (int64_t t = 0; t < kSteps; ++t) {
    fixed.packed.copy_(c.packed.narrow(1, t, 1));
    fixed.documents.positions.copy_(c.documents.positions.narrow(1, t, 1));
    graph.replay();
    CAPTURE(t);
    REQUIRE(same_bits(y, exact_y.select(1, t)));
  }
  REQUIRE(same_bits(state, exact_state));
}

TEST_CASE("ssd_step on CUDA: what the kernel cannot read is refused", "[ops][cuda]") {
  const SsdCase good = converted(step_case(2, 2, 2, true, false), at::kBFloat16, at::kCUDA);
  at::Tensor state = good.initial_state->clone();
  const at::Tensor before = state.clone();

  SsdCase c = good;
  c.documents.positions = good.documents.positions.cpu();
  require_error([&] { step(c, 0, state); }, "ssd_step positions: expected device cuda:0, got cpu");
  c = good;
  c.rope = ops::RopeTable{good.rope->cos.cpu(), good.rope->sin.cpu()};
  require_error([&] { step(c, 0, state); }, "ssd rope table: expected device cuda:0, got cpu");
  c = good;
  c.a_log = converted(good, at::kFloat, at::kCPU).a_log;
  require_error([&] { step(c, 0, state); }, "ssd A_log: expected device cuda:0, got cpu");
  at::Tensor turned = good.initial_state->transpose(2, 3);
  require_error([&] { step(good, 0, turned); }, "ssd_step state: expected contiguous");
  at::Tensor of_one = state.narrow(0, 0, 1);
  require_error([&] { step(good, 0, of_one); }, "ssd state: expected [2, 2, 128, 128]");
  REQUIRE(same_bits(state, before));
}
