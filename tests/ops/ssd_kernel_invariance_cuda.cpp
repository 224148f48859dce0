// What the SSD scan's CUDA kernels promise whatever their inputs are, most of it bit for bit.
#include <limits>

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd.h>

#include "ssd_kernel_cases.h"
#include "support/busy_gpu.h"
#include "support/cuda_graph.h"
#include "support/op_case.h"

using namespace transxssm;

namespace {

// Results and gradients in buffers as the operator made them, nothing waited for: work that a graph can
// capture.
std::vector<at::Tensor> forward_and_backward(const SsdCase& c, const at::Tensor& dy,
                                             const at::Tensor& dfinal) {
  for (const ParameterPtr& p : c.parameters()) p->grad.zero_();
  const ops::SsdResult out = c.run();
  std::vector<at::Tensor> all =
      torch::autograd::grad({out.y_btw, out.final_state_bhpn}, {c.packed, *c.initial_state}, {dy, dfinal});
  all.insert(all.end(), {out.y_btw.detach(), out.final_state_bhpn.detach()});
  for (const ParameterPtr& p : c.parameters()) all.push_back(p->grad.clone());
  return all;
}

// A case, its inputs leaves of a graph, and gradients for its results.
struct DifferentiableCase {
  SsdCase c;
  at::Tensor dy, dfinal;

  explicit DifferentiableCase(const SsdCase& of, uint64_t seed = 77) : c(copy_of(of)) {
    c.packed.requires_grad_(true);
    c.initial_state = of.initial_state->clone().requires_grad_(true);
    std::tie(dy, dfinal) = kernel_cotangents(of, seed);
    dy = dy.to(kGpu);
    dfinal = dfinal.to(kGpu, at::kFloat);
  }
  std::vector<at::Tensor> run() const { return forward_and_backward(c, dy, dfinal); }
};

SsdCase everything_case(const ops::Documents& documents, int64_t heads, int64_t groups, uint64_t seed = 1) {
  SsdCase c = kernel_case(documents, heads, groups, seed);
  add_everything(c);
  return on_gpu(c);
}

void require_same_bits(const std::vector<at::Tensor>& actual, const std::vector<at::Tensor>& expected) {
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(i);
    REQUIRE(actual[i].equal(expected[i]));
  }
}

void require_same_bits(const SsdOutcome& actual, const SsdOutcome& expected) {
  for (const auto& [name, tensor] : expected.tensors) {
    INFO(name);
    REQUIRE(actual[name].equal(tensor));
  }
}

// Tokens [begin, end) of a case of one document per row, going on from `state`.
SsdCase part_of(const SsdCase& c, int64_t begin, int64_t end, const std::optional<at::Tensor>& state) {
  SsdCase part = c;
  part.packed = c.packed.narrow(1, begin, end - begin);
  part.documents = ops::one_document_per_row(c.documents.batch, end - begin, kGpu, begin);
  part.initial_state = state;
  return part;
}

// Leaves memory that allocations will get again full of one byte.
void dirty_free_memory(int byte) {
  std::vector<at::Tensor> blocks;
  for (const int64_t bytes :
       {int64_t{1} << 28, int64_t{1} << 25, int64_t{1} << 24, int64_t{1} << 23, int64_t{1} << 22})
    for (int i = 0; i < 3; ++i)
      blocks.push_back(at::full({bytes}, byte, at::TensorOptions(kGpu).dtype(at::kByte)));
  for (int i = 0; i < 400; ++i)
    blocks.push_back(at::full({(i % 40 + 1) * 8192}, byte, at::TensorOptions(kGpu).dtype(at::kByte)));
}

}  // namespace

TEST_CASE("ssd kernels: 1000 runs on a busy GPU give the same bits", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const DifferentiableCase d(everything_case(documents_at({{100, 300}, {}}, 512), 8, 8));
  const std::vector<at::Tensor> first = d.run();
  BusyGpu other_work;
  for (int repeat = 0; repeat < 1000; ++repeat) {
    other_work.queue();
    CAPTURE(repeat);
    require_same_bits(d.run(), first);
  }
}

TEST_CASE("ssd kernels: repeated runs in several segments and with groups give the same bits",
          "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const DifferentiableCase d(everything_case(documents_at({{100, 900, 1024}}, 2000), 4, 2));
  const std::vector<at::Tensor> first = d.run();
  for (int repeat = 0; repeat < 20; ++repeat) require_same_bits(d.run(), first);
}

TEST_CASE("ssd kernels: a token changes nothing before it, bit for bit", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const int64_t tokens = GENERATE(300, 1100);  // the latter in two segments that meet at 640
  const SsdCase c = everything_case(documents_at({{40}, {}}, tokens), 2, 2);
  const at::Tensor y = c.run().y_btw;
  for (const int64_t t : {int64_t{1}, int64_t{63}, int64_t{64}, int64_t{100}, int64_t{127}, int64_t{128},
                          int64_t{200}, tokens * 7 / 12, tokens - 1}) {
    CAPTURE(tokens, t);
    const SsdCase changed = copy_of(c);
    changed.packed.select(1, t).add_(1);
    const at::Tensor after = changed.run().y_btw;
    REQUIRE(after.narrow(1, 0, t).equal(y.narrow(1, 0, t)));
    REQUIRE_FALSE(after.select(1, t).equal(y.select(1, t)));
  }
}

TEST_CASE("ssd kernels: a changed document changes no other, in values and gradients, bit for bit",
          "[ops][cuda]") {
  if (!kernels_run_here()) return;
  // Row 1 is all one document; row 0's third, [begin, end), lies in one chunk, in several, or in two
  // segments.
  const auto [tokens, begin, end] = GENERATE(table<int64_t, int64_t, int64_t>(
      {{300, 20, 60}, {300, 64, 128}, {300, 70, 257}, {300, 63, 299}, {1100, 500, 700}, {1100, 640, 1000}}));
  CAPTURE(tokens, begin, end);
  const SsdCase c = everything_case(documents_at({{5, begin, end}, {}}, tokens), 2, 1);
  auto [dy, dfinal] = kernel_cotangents(c);
  const SsdOutcome before = ssd_outcome(c, dy, dfinal);
  // Other inputs, far steeper decays, and another gradient.
  const SsdCase changed = copy_of(c);
  changed.packed[0].narrow(0, begin, end - begin).mul_(3).add_(2);
  dy[0].narrow(0, begin, end - begin).mul_(-2);
  const SsdOutcome after = ssd_outcome(changed, dy, dfinal);
  for (const std::string name : {"y", "d packed"}) {
    INFO(name);
    const at::Tensor &a = after[name], &b = before[name];
    REQUIRE(a[0].narrow(0, 0, begin).equal(b[0].narrow(0, 0, begin)));
    REQUIRE(a[0].narrow(0, end, tokens - end).equal(b[0].narrow(0, end, tokens - end)));
    REQUIRE(a[1].equal(b[1]));
    REQUIRE_FALSE(a[0].narrow(0, begin, end - begin).equal(b[0].narrow(0, begin, end - begin)));
  }
  REQUIRE(after["final state"].equal(before["final state"]));
  REQUIRE(after["d initial state"].equal(before["d initial state"]));
}

TEST_CASE("ssd kernels: two rows' documents in one row give what they give apart", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  SsdCase apart = kernel_case(ops::one_document_per_row(2, 150, at::kCPU), 2, 2);
  add_rope(apart, 300);
  SsdCase together = apart;
  together.packed = apart.packed.view({1, 300, -1});
  together.documents = documents_at({{150}}, 300);
  const at::Tensor dy = kernel_cotangents(apart).first;
  const SsdOutcome one = ssd_outcome(on_gpu(together), dy.view({1, 300, -1}), at::Tensor());
  const SsdOutcome two = ssd_outcome(on_gpu(apart), dy, at::Tensor());
  // Both are within half of that of the exact values; positions differ, hence roundings.
  REQUIRE(rms_error(one["y"].view({2, 150, -1}), two["y"]) <= 6e-3);
  REQUIRE(rms_error(one["d packed"].view_as(two["d packed"]), two["d packed"]) <= 6e-3);
  REQUIRE(rms_error(one["final state"][0], two["final state"][1]) <= 4e-3);
}

TEST_CASE("ssd kernels: split anywhere with the state handed over equals one pass", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const int64_t tokens = 330;
  const DifferentiableCase whole(everything_case(ops::one_document_per_row(2, tokens, at::kCPU), 2, 2));
  const std::vector<at::Tensor> expected = whole.run();
  const std::vector<std::string> names{"d packed", "d initial state", "y", "final state"};
  for (const int64_t at : {1, 63, 64, 65, 128, 200, 256, 329}) {
    CAPTURE(at);
    const SsdCase& c = whole.c;
    const ops::SsdResult first = part_of(c, 0, at, c.initial_state).run();
    const ops::SsdResult second = part_of(c, at, tokens, first.final_state_bhpn).run();
    const at::Tensor y = at::cat({first.y_btw, second.y_btw}, 1);
    std::vector<at::Tensor> actual = torch::autograd::grad(
        {y, second.final_state_bhpn}, {c.packed, *c.initial_state}, {whole.dy, whole.dfinal});
    actual.insert(actual.end(), {y.detach(), second.final_state_bhpn.detach()});
    for (size_t i = 0; i < names.size(); ++i) {
      INFO(names[i]);
      REQUIRE(rms_error(actual[i], expected[i]) <=
              (names[i].find("state") != std::string::npos ? 4e-3 : 6e-3));
    }
    // Between two chunks the state is what the next chunk would have begun with.
    if (at % 64 != 0) continue;
    REQUIRE(actual[2].equal(expected[2]));
    REQUIRE(actual[3].equal(expected[3]));
  }
}

TEST_CASE("ssd kernels: a row in several segments equals a row in one", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  // 66 sequences of heads fill the GPU as they are; two are cut.
  SsdCase many = kernel_case(ops::one_document_per_row(33, 1100, at::kCPU), 2, 1);
  add_everything(many);
  many = on_gpu(many);
  SsdCase one = many;
  one.packed = many.packed.narrow(0, 7, 1);
  one.initial_state = many.initial_state->narrow(0, 7, 1);
  one.documents = ops::one_document_per_row(1, 1100, kGpu);
  const auto [dy, dfinal] = kernel_cotangents(many);
  const SsdOutcome in_one = ssd_outcome(many, dy, dfinal);
  const SsdOutcome in_several = ssd_outcome(one, dy.narrow(0, 7, 1), dfinal.narrow(0, 7, 1));
  // States differ by f32 rounding, which now and then turns the rounding of a bf16 copy.
  for (const std::string name : {"y", "final state", "d packed", "d initial state"}) {
    INFO(name);
    const at::Tensor expected = in_one[name].narrow(0, 7, 1);
    const int64_t last = expected.dim() - 1,
                  used = std::min(expected.size(last), ops::ssd_packed_columns(one.dims));
    REQUIRE(rms_error(in_several[name].narrow(last, 0, used), expected.narrow(last, 0, used)) <= 1e-3);
  }
}

TEST_CASE("ssd kernels: few and many sequences agree", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  // The forward scan cuts a head's columns in two where there are few, and has more threads turn the angles
  // on from row to row: their f32 rounding now and then turns that of a bf16 value.
  const DifferentiableCase many(everything_case(ops::one_document_per_row(52, 200, at::kCPU), 2, 2));
  const std::vector<at::Tensor> expected = many.run();
  DifferentiableCase few(everything_case(ops::one_document_per_row(3, 200, at::kCPU), 2, 2));
  const auto three = [](const at::Tensor& x) { return x.detach().narrow(0, 20, 3); };
  few.c.packed = three(many.c.packed).requires_grad_(true);
  few.c.initial_state = three(*many.c.initial_state).requires_grad_(true);
  few.dy = three(many.dy);
  few.dfinal = three(many.dfinal);
  const std::vector<at::Tensor> actual = few.run();
  for (size_t i = 0; i < 4; ++i) {
    CAPTURE(i);
    REQUIRE(rms_error(actual[i], three(expected[i])) <= 1e-3);
  }
}

TEST_CASE("ssd kernels: shifting all positions leaves the outputs unchanged", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  SsdCase c = kernel_case(ops::one_document_per_row(2, 200, at::kCPU), 2, 2);
  add_rope(c, 911 + 200);
  const at::Tensor y = on_gpu(c).run().y_btw;
  c.documents = ops::one_document_per_row(2, 200, at::kCPU, /*first_position=*/911);
  REQUIRE(rms_error(on_gpu(c).run().y_btw, y) <= 6e-3);
}

TEST_CASE("ssd kernels: a scan and then steps equal one pass", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const int64_t tokens = 200, prefill = GENERATE(1, 64, 130);
  const SsdCase c = everything_case(ops::one_document_per_row(3, tokens, at::kCPU), 2, 2);
  const at::NoGradGuard no_grad;
  const ops::SsdResult whole = c.run(), first = part_of(c, 0, prefill, c.initial_state).run();
  at::Tensor state = first.final_state_bhpn.clone();
  std::vector<at::Tensor> outputs{first.y_btw};
  for (int64_t t = prefill; t < tokens; ++t)
    outputs.push_back(ops::ssd_step(c.dims, c.packed.select(1, t), c.a_log, c.dt_bias, c.d_skip,
                                    c.rope_table(), c.documents.positions.select(1, t), state)
                          .unsqueeze(1));
  REQUIRE(rms_error(at::cat(outputs, 1), whole.y_btw) <= 6e-3);
  REQUIRE(rms_error(state, whole.final_state_bhpn) <= 4e-3);
}

TEST_CASE("ssd kernels: inference gives training's bits", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const SsdCase c = everything_case(documents_at({{40}, {}}, 200), 2, 1);
  const ops::SsdResult training = c.run();
  const at::NoGradGuard no_grad;
  const ops::SsdResult inference = c.run();
  REQUIRE(inference.y_btw.equal(training.y_btw));
  REQUIRE(inference.final_state_bhpn.equal(training.final_state_bhpn));
}

TEST_CASE("ssd kernels: parameters' gradients are added to, or left alone if there are none", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const DifferentiableCase d(everything_case(documents_at({{40}, {}}, 200), 3, 3));
  const std::vector<at::Tensor> expected = d.run();
  const auto backward = [&](const SsdCase& c) {
    const ops::SsdResult out = c.run();
    return torch::autograd::grad({out.y_btw, out.final_state_bhpn}, {c.packed, *c.initial_state},
                                 {d.dy, d.dfinal});
  };
  backward(d.c);
  for (size_t i = 0; i < 3; ++i) REQUIRE(d.c.parameters()[i]->grad.equal(expected[4 + i] * 2));

  SsdCase without = d.c;
  without.a_log = frozen(d.c.a_log);
  without.dt_bias = frozen(d.c.dt_bias);
  without.d_skip = frozen(d.c.d_skip);
  require_same_bits(backward(without), {expected[0], expected[1]});
}

TEST_CASE("ssd kernels: the packed input's place in memory changes nothing, and is only read",
          "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const SsdCase strided = everything_case(documents_at({{40}, {}}, 200), 8, 8);  // among NaNs
  const int64_t used = ops::ssd_packed_columns(strided.dims);
  SsdCase dense = strided;
  dense.packed = strided.packed.narrow(2, 0, used).contiguous();
  const at::Tensor before = strided.packed.clone().view(at::kShort);
  const auto [dy, dfinal] = kernel_cotangents(strided);
  const SsdOutcome from_dense = ssd_outcome(dense, dy, dfinal);
  SsdOutcome from_strided = ssd_outcome(strided, dy, dfinal);
  REQUIRE(strided.packed.clone().view(at::kShort).equal(before));
  REQUIRE(from_strided["d packed"].size(2) == used + 3);
  for (auto& [name, tensor] : from_strided.tensors)
    if (name == "d packed") tensor = tensor.narrow(2, 0, used);
  require_same_bits(from_strided, from_dense);
}

TEST_CASE("ssd kernels: nothing is read that was not written, nothing left unwritten", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const auto [batch, tokens, heads, groups] = GENERATE(table<int64_t, int64_t, int64_t, int64_t>(
      {{2, 1, 2, 2}, {2, 65, 2, 1}, {2, 129, 3, 3}, {1, 1100, 2, 1}, {52, 70, 2, 2}}));
  CAPTURE(batch, tokens, heads, groups);
  const DifferentiableCase d(
      everything_case(ops::one_document_per_row(batch, tokens, at::kCPU), heads, groups));
  dirty_free_memory(0);
  const std::vector<at::Tensor> expected = d.run();
  for (const at::Tensor& tensor : expected) REQUIRE(at::isfinite(tensor).all().item<bool>());
  dirty_free_memory(0xff);  // NaNs
  require_same_bits(d.run(), expected);
}

TEST_CASE("ssd kernels: a replayed graph gives the bits of direct calls, with the data of the moment",
          "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const auto [tokens, heads, groups] =
      GENERATE(table<int64_t, int64_t, int64_t>({{200, 4, 4}, {1100, 2, 1}}));
  CAPTURE(tokens, heads, groups);
  const ops::Documents documents = documents_at({{40}, {}}, tokens);
  const DifferentiableCase captured(everything_case(documents, heads, groups));
  captured.run();  // what is made at the first call
  std::vector<at::Tensor> results;
  CapturedGraph graph([&] { results = captured.run(); });
  for (const uint64_t seed : {1, 2, 3}) {
    CAPTURE(seed);
    SsdCase other = everything_case(documents, heads, groups, seed);
    other.a_log = captured.c.a_log;
    other.dt_bias = captured.c.dt_bias;
    other.d_skip = captured.c.d_skip;
    const DifferentiableCase direct(other, seed + 50);
    const std::vector<at::Tensor> expected = direct.run();
    captured.c.packed.detach().copy_(direct.c.packed.detach());
    captured.c.initial_state->detach().copy_(direct.c.initial_state->detach());
    captured.dy.copy_(direct.dy);
    captured.dfinal.copy_(direct.dfinal);
    graph.replay();
    require_same_bits(results, expected);
  }
}
