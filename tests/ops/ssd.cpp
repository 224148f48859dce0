// The chunked SSD scan against its token-by-token twin, values and gradients, in f64.
#include "ops/ssd.h"

#include "support/catch.h"
#include "support/require_error.h"
#include "support/ssd_case.h"

using namespace transxssm;

namespace {

// Errors of f64 sums over a few hundred tokens, relative to the largest value.
constexpr double kF64 = 1e-10;

// The twin runs once, the scan at every chunk length.
void require_equals_sequential(SsdCase c, const std::vector<int64_t>& chunks) {
  const auto [dy, dfinal] = ssd_cotangents(c);
  const SsdOutcome exact = ssd_outcome(c, dy, dfinal, /*sequential=*/true);
  for (const int64_t chunk : chunks) {
    CAPTURE(chunk);
    c.dims.chunk_size = chunk;
    require_same_outcome(ssd_outcome(c, dy, dfinal), exact, kF64);
  }
}

}  // namespace

TEST_CASE("ssd: chunks equal the token recurrence at awkward lengths, values and gradients", "[ops]") {
  const int64_t seq_len = GENERATE(1, 63, 64, 65, 129, 211);
  CAPTURE(seq_len);
  SsdCase c = f64_ssd_case({2, 3, 4, 2, 0}, ops::one_document_per_row(2, seq_len, at::kCPU));
  c.rope = f64_rope(seq_len, 4);
  require_equals_sequential(c, {16, 64, 128});
}

TEST_CASE("ssd: documents anywhere in a chunk restart the state", "[ops]") {
  const int64_t seq_len = 211;
  const bool initial = GENERATE(false, true);
  CAPTURE(initial);
  const auto documents = documents_at({{0, 1, 63, 64, 127, 210}, {16, 17, 18, 130}, {}}, seq_len);
  SsdCase c = f64_ssd_case({2, 3, 4, 1, 0}, documents);
  c.rope = f64_rope(seq_len, 4);
  c.d_skip = f64_parameter("d_skip", {2}, 5);
  if (initial)
    c.initial_state = f64_tensor({3, 2, 3, 4}, 9);  // only the row's first document goes on from it
  require_equals_sequential(c, {16, 64, 128});
}

TEST_CASE("ssd: every token its own document", "[ops]") {
  std::vector<int64_t> starts;
  for (int64_t t = 0; t < 37; ++t) starts.push_back(t);
  SsdCase c = f64_ssd_case({2, 3, 4, 2, 0}, documents_at({starts, starts}, 37));
  c.rope = f64_rope(37, 4);
  require_equals_sequential(c, {16});
}

TEST_CASE("ssd: groups, skip, rotation and unequal widths in every combination", "[ops]") {
  const int64_t groups = GENERATE(1, 2, 4);
  const bool rope = GENERATE(false, true);
  const bool skip = GENERATE(false, true);
  const bool initial = GENERATE(false, true);
  const auto [head_dim, state_dim] =
      GENERATE(std::pair<int64_t, int64_t>{5, 2}, std::pair<int64_t, int64_t>{2, 6});
  CAPTURE(groups, rope, skip, initial, head_dim, state_dim);
  SsdCase c = f64_ssd_case({4, head_dim, state_dim, groups, 0}, documents_at({{7, 31}, {16}}, 45));
  if (rope) c.rope = f64_rope(45, state_dim);
  if (skip) c.d_skip = f64_parameter("d_skip", {4}, 5);
  if (initial) c.initial_state = f64_tensor({2, 4, head_dim, state_dim}, 9);
  require_equals_sequential(c, {16});
}

TEST_CASE("ssd: the chunk length changes rounding, not the function", "[ops]") {
  SsdCase c = f64_ssd_case({2, 8, 8, 2, 128}, documents_at({{70, 140}, {}}, 150));
  c.rope = f64_rope(150, 8);
  const auto [dy, dfinal] = ssd_cotangents(c);
  const SsdOutcome at_128 = ssd_outcome(c, dy, dfinal);
  for (const int64_t chunk : {1, 7, 64, 256}) {
    CAPTURE(chunk);
    c.dims.chunk_size = chunk;
    require_same_outcome(ssd_outcome(c, dy, dfinal), at_128, 1e-11);
  }
}

TEST_CASE("ssd: backward agrees with central differences", "[ops]") {
  const bool with_documents = GENERATE(false, true);
  const auto documents =
      with_documents ? documents_at({{2, 3}, {}}, 7) : ops::one_document_per_row(2, 7, at::kCPU);
  SsdCase c = f64_ssd_case({2, 3, 2, 1, 3}, documents);
  c.rope = f64_rope(7, 2);
  c.d_skip = f64_parameter("d_skip", {2}, 5);
  gradcheck(
      [&](const std::vector<at::Tensor>& in) {
        SsdCase step = c;
        step.packed = in[0];
        step.initial_state = in[1];
        const ops::SsdResult out = step.run();
        return std::vector<at::Tensor>{out.y_btw, out.final_state_bhpn};
      },
      {c.packed, f64_tensor({2, 2, 3, 2}, 9)}, c.parameters());
}

TEST_CASE("ssd: either result may be the only one that is used", "[ops]") {
  SsdCase c = f64_ssd_case({2, 3, 4, 2, 8}, documents_at({{5}, {}}, 21));
  c.initial_state = f64_tensor({2, 2, 3, 4}, 9);
  const auto [dy, dfinal] = ssd_cotangents(c);
  for (const auto& [a, b] : {std::pair{dy, at::Tensor()}, std::pair{at::Tensor(), dfinal}})
    require_same_outcome(ssd_outcome(c, a, b), ssd_outcome(c, a, b, /*sequential=*/true), kF64);
}

TEST_CASE("ssd: reads a strided view in place and gives its columns one gradient", "[ops]") {
  SsdCase c = f64_ssd_case({2, 3, 4, 2, 8}, documents_at({{5}, {}}, 21));
  const int64_t columns = c.packed.size(2);
  const auto [dy, dfinal] = ssd_cotangents(c);
  const SsdOutcome plain = ssd_outcome(c, dy, dfinal);

  // Two columns before, three unused ones inside the view, one behind it.
  const at::Tensor wide = f64_tensor({2, 21, columns + 6}, 3).requires_grad_(true);
  {
    const at::NoGradGuard no_grad;
    at::Tensor used = wide.narrow(2, 2, columns);
    used.copy_(c.packed);
  }
  SsdCase strided = c;
  strided.packed = wide.narrow(2, 2, columns + 3);
  const ops::SsdResult out = strided.run();
  REQUIRE(same_bits(out.y_btw, plain["y"]));
  ((out.y_btw * dy).sum() + (out.final_state_bhpn * dfinal).sum()).backward();
  REQUIRE(same_bits(wide.grad().narrow(2, 2, columns), plain["d packed"]));
  REQUIRE(max_abs(wide.grad().narrow(2, 0, 2)) == 0);
  REQUIRE(max_abs(wide.grad().narrow(2, columns + 2, 4)) == 0);
}

TEST_CASE("ssd: parameters alone may want gradients, and inference wants none", "[ops]") {
  SsdCase c = f64_ssd_case({2, 3, 4, 2, 8}, ops::one_document_per_row(1, 13, at::kCPU));
  const auto [dy, dfinal] = ssd_cotangents(c);
  const SsdOutcome full = ssd_outcome(c, dy, dfinal);
  c.a_log->grad.zero_();
  c.packed = c.packed.detach();
  const ops::SsdResult out = c.run();
  ((out.y_btw * dy).sum() + (out.final_state_bhpn * dfinal).sum()).backward();
  REQUIRE(same_bits(c.a_log->grad, full["d a_log"]));

  const auto frozen = [](const ParameterPtr& p) {
    return c10::make_intrusive<Parameter>(p->name, p->weight.detach(), at::Tensor());
  };
  c.a_log = frozen(c.a_log);
  c.dt_bias = frozen(c.dt_bias);
  REQUIRE_FALSE(c.run().y_btw.requires_grad());
}

TEST_CASE("ssd: wrong arguments are named with what was expected", "[ops]") {
  SsdCase c = f64_ssd_case({4, 3, 4, 2, 8}, ops::one_document_per_row(1, 13, at::kCPU));
  const auto message = [](const SsdCase& bad) -> std::string {
    try {
      bad.run();
    } catch (const std::exception& e) {
      return e.what();
    }
    return "";
  };
  SsdCase bad = c;
  bad.packed = c.packed.narrow(2, 0, 20);
  REQUIRE(message(bad).find("expected at least 32 columns") != std::string::npos);
  bad = c;
  bad.dims.num_groups = 3;
  REQUIRE(message(bad).find("groups that divide 4 heads, got 3") != std::string::npos);
  bad = c;
  bad.a_log = f64_parameter("a_log", {3}, 1);
  REQUIRE(message(bad).find("ssd A_log: expected [4], got [3]") != std::string::npos);
  bad = c;
  bad.rope = f64_rope(13, 6);
  REQUIRE(message(bad).find("ssd rope table: expected [any, 2], got [13, 3]") != std::string::npos);
  bad = c;
  bad.initial_state = f64_tensor({1, 4, 4, 3}, 1);
  REQUIRE(message(bad).find("ssd state: expected [1, 4, 3, 4], got [1, 4, 4, 3]") != std::string::npos);
  bad = c;
  bad.documents = ops::one_document_per_row(1, 13, at::kCPU, /*first_position=*/20);
  bad.rope = f64_rope(32, 4);
  REQUIRE(message(bad).find("ssd rope table: expected at least 33 positions, got 32") != std::string::npos);
  bad = c;
  bad.documents.positions = c.documents.positions.narrow(1, 0, 12);
  REQUIRE(message(bad).find("ssd document positions: expected [1, 13], got [1, 12]") != std::string::npos);
  bad = c;
  bad.documents.ids = c.documents.ids.to(at::kLong);
  REQUIRE(message(bad).find("ssd document ids: expected Int, got Long") != std::string::npos);
  bad = c;
  bad.documents.ids = c.documents.ids.narrow(1, 0, 12);
  REQUIRE(message(bad).find("ssd document ids: expected [1, 13], got [1, 12]") != std::string::npos);
  bad = c;
  bad.documents.offsets = c.documents.offsets + 1;
  REQUIRE(message(bad).find("document offsets: expected 0 to 13, got 1 to 14") != std::string::npos);
  bad = c;
  bad.packed = c.packed.narrow(1, 0, 0);
  bad.documents = ops::one_document_per_row(1, 0, at::kCPU);
  REQUIRE(message(bad).find("ssd packed: expected at least one token, got [1, 0, 32]") != std::string::npos);
  bad = c;
  bad.documents.positions = c.documents.positions.to(at::kInt);
  REQUIRE(message(bad).find("ssd document positions: expected Long, got Int") != std::string::npos);
  bad = c;
  const at::Tensor grad = c.dt_bias->grad.to(at::kFloat);
  bad.dt_bias = c10::make_intrusive<Parameter>("dt_bias", c.dt_bias->weight, grad);
  REQUIRE(message(bad).find("gradient of ssd dt_bias: expected Double, got Float") != std::string::npos);
  bad.dt_bias =
      c10::make_intrusive<Parameter>("dt_bias", c.dt_bias->weight, f64_tensor({8}, 1).slice(0, 0, 8, 2));
  REQUIRE(message(bad).find("gradient of ssd dt_bias: expected contiguous, got strides [2]") !=
          std::string::npos);
}

TEST_CASE("ssd: the path's description names the reason", "[ops]") {
  const ops::SsdDims dims{2, 128, 128, 2, 64};
  REQUIRE(ops::ssd_path_description(dims, at::kCPU, at::kBFloat16) ==
          "chunked LibTorch (the CPU has no other)");
  ops::SsdDims chosen = dims;
  chosen.path = ops::SsdPath::reference;
  REQUIRE(ops::ssd_path_description(chosen, at::kCPU, at::kBFloat16) ==
          "chunked LibTorch (kernels.ssd is reference)");
}

TEST_CASE("ssd: what comes with the projection has its device and type", "[ops]") {
  SsdCase good = f64_ssd_case({2, 3, 4, 2, 8}, ops::one_document_per_row(2, 9, at::kCPU));
  good.rope = f64_rope(9, 4);
  REQUIRE_NOTHROW(good.run());
  const auto refuses = [&](auto&& spoil, const std::string& says) {
    SsdCase c = good;
    spoil(c);
    require_error([&] { c.run(); }, says);
  };
  for (const auto dtype : {at::kHalf, at::kInt, at::kLong})
    refuses([&](SsdCase& c) { c.packed = good.packed.to(dtype); },
            concat("ssd packed: expected BFloat16, Float or Double, got ", dtype));
  const auto elsewhere = [](const ParameterPtr& p) {
    return c10::make_intrusive<Parameter>(p->name, p->weight.detach().to(at::kMeta), at::Tensor());
  };
  refuses([&](SsdCase& c) { c.a_log = elsewhere(good.a_log); }, "ssd A_log: expected device cpu, got meta");
  refuses([&](SsdCase& c) { c.dt_bias = elsewhere(good.dt_bias); },
          "ssd dt_bias: expected device cpu, got meta");
  refuses([&](SsdCase& c) { c.a_log = {}; }, "ssd A_log: expected a parameter, got none");
  refuses([&](SsdCase& c) { c.rope->cos = good.rope->cos.to(at::kMeta); },
          "ssd rope table: expected device cpu, got meta");
  refuses([&](SsdCase& c) { c.rope->sin = good.rope->sin.to(at::kBFloat16); },
          "ssd rope table: expected Double, got BFloat16");
  refuses(
      [&](SsdCase& c) {
        c.initial_state = at::zeros({2, 2, 3, 4}, at::TensorOptions(at::kMeta).dtype(at::kDouble));
      },
      "ssd state: expected");
}
