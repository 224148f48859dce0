// What the SSD scan promises whatever its inputs are: splitting, shifting, causality, isolation of documents,
// decoding.
#include <ATen/ops/cat.h>

#include "ops/ssd.h"
#include "support/catch.h"
#include "support/ssd_case.h"

using namespace transxssm;

namespace {

constexpr double kF64 = 1e-10;

// Tokens [begin, end) of a case of one document per row, going on from `state`.
SsdCase part_of(const SsdCase& c, int64_t begin, int64_t end, const std::optional<at::Tensor>& state) {
  SsdCase part = c;
  part.packed = c.packed.narrow(1, begin, end - begin);
  part.documents = ops::one_document_per_row(c.documents.batch, end - begin, at::kCPU, begin);
  part.initial_state = state;
  return part;
}

SsdCase plain_case(int64_t batch, int64_t seq_len, int64_t chunk) {
  SsdCase c = f64_ssd_case({2, 3, 4, 1, chunk}, ops::one_document_per_row(batch, seq_len, at::kCPU));
  c.rope = f64_rope(seq_len + 1000, 4);
  c.d_skip = f64_parameter("d_skip", {2}, 5);
  return c;
}

}  // namespace

TEST_CASE("ssd: split anywhere with the state handed over equals one pass", "[ops]") {
  const SsdCase c = plain_case(2, 131, 32);
  const ops::SsdResult whole = c.run();
  for (const int64_t at : {1, 31, 32, 33, 77, 130}) {
    CAPTURE(at);
    const ops::SsdResult first = part_of(c, 0, at, std::nullopt).run();
    const ops::SsdResult second = part_of(c, at, 131, first.final_state_bhpn).run();
    REQUIRE(relative_error(at::cat({first.y_btw, second.y_btw}, 1), whole.y_btw) <= kF64);
    REQUIRE(relative_error(second.final_state_bhpn, whole.final_state_bhpn) <= kF64);
  }
}

TEST_CASE("ssd: a scan and then steps equal one pass", "[ops]") {
  const SsdCase c = plain_case(3, 41, 16);
  const ops::SsdResult whole = c.run();
  const int64_t prefill = GENERATE(1, 16, 33);
  const ops::SsdResult first = part_of(c, 0, prefill, std::nullopt).run();
  at::Tensor state = first.final_state_bhpn.detach().clone();
  std::vector<at::Tensor> outputs{first.y_btw};
  for (int64_t t = prefill; t < 41; ++t) {
    const at::Tensor positions = c.documents.positions.select(1, t);
    outputs.push_back(ops::ssd_step(c.dims, c.packed.select(1, t), c.a_log, c.dt_bias, c.d_skip,
                                    c.rope_table(), positions, state)
                          .unsqueeze(1));
  }
  REQUIRE(relative_error(at::cat(outputs, 1), whole.y_btw) <= kF64);
  REQUIRE(relative_error(state, whole.final_state_bhpn) <= kF64);
}

TEST_CASE("ssd: a step changes neither the final state of the scan nor what its backward needs", "[ops]") {
  SsdCase c = plain_case(1, 20, 8);
  c.packed.requires_grad_(true);
  const ops::SsdResult out = c.run();
  at::Tensor state = out.final_state_bhpn.detach().clone();
  ops::ssd_step(c.dims, c.packed.detach().select(1, 0), c.a_log, c.dt_bias, c.d_skip, c.rope_table(),
                c.documents.positions.select(1, 19), state);
  REQUIRE_FALSE(same_bits(state, out.final_state_bhpn));
  REQUIRE_NOTHROW(out.y_btw.sum().backward());
}

TEST_CASE("ssd: shifting all positions leaves the outputs unchanged", "[ops]") {
  SsdCase c = plain_case(2, 67, 16);
  const at::Tensor y = c.run().y_btw;
  c.documents = ops::one_document_per_row(2, 67, at::kCPU, /*first_position=*/911);
  REQUIRE(relative_error(c.run().y_btw, y) <= kF64);
}

TEST_CASE("ssd: a token changes nothing before it, bit for bit", "[ops]") {
  const at::ScalarType dtype = GENERATE(at::kDouble, at::kFloat, at::kBFloat16);
  SsdCase c = f64_ssd_case({2, 16, 16, 2, 32}, documents_at({{40}, {}}, 101));
  c.rope = f64_rope(101, 16);
  c = converted(c, dtype);
  const at::Tensor y = c.run().y_btw;
  for (const int64_t t : {1, 31, 32, 63, 100}) {
    CAPTURE(t);
    SsdCase changed = c;
    changed.packed = c.packed.clone();
    changed.packed.select(1, t).add_(1);
    const at::Tensor after = changed.run().y_btw;
    REQUIRE(same_bits(after.narrow(1, 0, t), y.narrow(1, 0, t)));
    REQUIRE_FALSE(same_bits(after.select(1, t), y.select(1, t)));
  }
}

TEST_CASE("ssd: a changed document changes no other, in values and gradients, bit for bit", "[ops]") {
  const at::ScalarType dtype = GENERATE(at::kDouble, at::kFloat);
  SsdCase c = f64_ssd_case({2, 16, 16, 1, 32}, documents_at({{20, 70}, {}}, 101));
  c.rope = f64_rope(101, 16);
  c.initial_state = f64_tensor({2, 2, 16, 16}, 9);
  c = converted(c, dtype);
  auto [dy, dfinal] = ssd_cotangents(c);
  const SsdOutcome before = ssd_outcome(c, dy, dfinal);

  // Document [20, 70) of row 0 gets other inputs, far steeper decays and another gradient.
  c.packed = c.packed.clone();
  c.packed[0].narrow(0, 20, 50).mul_(3).add_(5);
  dy[0].narrow(0, 20, 50).mul_(-2);
  const SsdOutcome after = ssd_outcome(c, dy, dfinal);
  for (const std::string name : {"y", "d packed"}) {
    INFO(name);
    const at::Tensor &a = after[name], &b = before[name];
    REQUIRE(same_bits(a[0].narrow(0, 0, 20), b[0].narrow(0, 0, 20)));
    REQUIRE(same_bits(a[0].narrow(0, 70, 31), b[0].narrow(0, 70, 31)));
    REQUIRE(same_bits(a[1], b[1]));
    REQUIRE_FALSE(same_bits(a[0].narrow(0, 20, 50), b[0].narrow(0, 20, 50)));
  }
  REQUIRE(same_bits(after["final state"], before["final state"]));
  REQUIRE(same_bits(after["d initial state"], before["d initial state"]));
}

TEST_CASE("ssd: packed documents equal separate runs", "[ops]") {
  const std::vector<int64_t> bounds{0, 1, 30, 64, 65, 127};
  SsdCase c = f64_ssd_case({2, 5, 4, 2, 32}, documents_at({bounds}, 127));
  c.rope = f64_rope(127, 4);
  const ops::SsdResult packed = c.run();
  for (size_t d = 0; d + 1 < bounds.size(); ++d) {
    CAPTURE(d);
    const int64_t begin = bounds[d], length = bounds[d + 1] - begin;
    SsdCase alone = c;
    alone.packed = c.packed.narrow(1, begin, length);
    alone.documents = ops::one_document_per_row(1, length, at::kCPU);
    const ops::SsdResult out = alone.run();
    REQUIRE(relative_error(packed.y_btw.narrow(1, begin, length), out.y_btw) <= kF64);
    if (d + 2 == bounds.size())
      REQUIRE(relative_error(packed.final_state_bhpn, out.final_state_bhpn) <= kF64);
  }
}

TEST_CASE("ssd: one document per row gives the same whether offsets have spare entries or not", "[ops]") {
  SsdCase c = plain_case(2, 45, 16);
  const auto [dy, dfinal] = ssd_cotangents(c);
  const SsdOutcome exact_capacity = ssd_outcome(c, dy, dfinal);
  c.documents = documents_at({{}, {}}, 45);
  require_same_outcome(ssd_outcome(c, dy, dfinal), exact_capacity, kF64);
}

TEST_CASE("ssd: two runs give the same bits", "[ops]") {
  SsdCase c = converted(f64_ssd_case({4, 16, 16, 2, 16}, documents_at({{40}, {}}, 70)), at::kFloat);
  const auto [dy, dfinal] = ssd_cotangents(c);
  const SsdOutcome first = ssd_outcome(c, dy, dfinal), second = ssd_outcome(c, dy, dfinal);
  for (const auto& [name, tensor] : first.tensors) REQUIRE(same_bits(second[name], tensor));
}
