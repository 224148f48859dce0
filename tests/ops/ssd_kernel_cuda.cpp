// The SSD scan's CUDA kernels against f64 on the CPU, values and gradients, and what they refuse.
#include "ssd_kernel_cases.h"
#include "support/require_error.h"

using namespace transxssm;

namespace {

ops::Documents one_document(int64_t batch, int64_t tokens) {
  return ops::one_document_per_row(batch, tokens, at::kCPU);
}

// Sequences `rows` of a case of one document per row.
SsdCase rows_of(const SsdCase& c, const at::Tensor& rows) {
  const auto chosen = [&](const at::Tensor& x) { return x.index_select(0, rows.to(x.device())); };
  SsdCase few = c;
  few.packed = chosen(c.packed);
  few.initial_state = chosen(*c.initial_state);
  few.documents = one_document(rows.numel(), c.documents.seq_len);
  return few;
}

// The same of what each sequence has of its own.
SsdOutcome rows_of(const SsdOutcome& outcome, const at::Tensor& rows) {
  SsdOutcome few;
  for (const auto& [name, tensor] : outcome.tensors)
    if (tensor.dim() > 1) few.tensors.emplace_back(name, tensor.index_select(0, rows.to(tensor.device())));
  return few;
}

}  // namespace

TEST_CASE("ssd kernels: close to f64 at awkward lengths", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const int64_t tokens = GENERATE(1, 2, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000);
  CAPTURE(tokens);
  SsdCase c = kernel_case(one_document(2, tokens), 2, 2);
  add_everything(c);
  require_close_to_f64(on_gpu(c));
}

TEST_CASE("ssd kernels: close to f64 at awkward lengths where the GPU is full", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  // The last: 52 heads' sequences in two segments each.
  const auto [batch, tokens] = GENERATE(
      table<int64_t, int64_t>({{52, 1}, {52, 64}, {52, 65}, {52, 128}, {52, 129}, {52, 257}, {26, 1000}}));
  CAPTURE(batch, tokens);
  SsdCase c = kernel_case(one_document(batch, tokens), 2, 1);
  add_everything(c);
  const SsdCase gpu = on_gpu(c);
  const auto [dy, dfinal] = kernel_cotangents(gpu);
  // Sequences don't know of each other, so some of them in f64 will do.
  const at::Tensor rows = at::tensor(std::vector<int64_t>{0, batch / 2, batch - 1});
  const SsdOutcome exact =
      exact_outcome(rows_of(gpu, rows), dy.index_select(0, rows), dfinal.index_select(0, rows));
  require_parts_close(gpu.dims, rows_of(ssd_outcome(gpu, dy, dfinal), rows), rows_of(exact, at::arange(3)));
}

TEST_CASE("ssd kernels: close to f64 for any number of sequences and heads", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const auto [batch, heads, groups, tokens] = GENERATE(table<int64_t, int64_t, int64_t, int64_t>({
      {1, 1, 1, 300},
      {1, 8, 8, 200},
      {12, 8, 2, 130},
      {1, 131, 131, 70},
      {7, 19, 1, 66},
      {32, 8, 8, 65},
  }));
  CAPTURE(batch, heads, groups, tokens);
  SsdCase c = kernel_case(one_document(batch, tokens), heads, groups);
  add_everything(c);
  require_close_to_f64(on_gpu(c));
}

TEST_CASE("ssd kernels: close to f64 with documents on both sides of a segment's end", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const bool initial = GENERATE(false, true);
  CAPTURE(initial);
  // Three segments that begin at 512 and 1024.
  SsdCase c = kernel_case(
      documents_at({{511, 512, 513, 1023, 1024}, {}, {512}, {1, 300, 1100}, {576, 1024, 1025, 1535}}, 1536),
      2, 2);
  add_everything(c);
  if (!initial) c.initial_state.reset();
  require_close_to_f64(on_gpu(c));
}

TEST_CASE("ssd kernels: close to f64 with every choice of groups, rotation, skip, states", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const int64_t groups = GENERATE(1, 2, 4);
  const bool rope = GENERATE(false, true), skip = GENERATE(false, true);
  const bool initial = GENERATE(false, true), final_gradient = GENERATE(false, true);
  CAPTURE(groups, rope, skip, initial, final_gradient);
  SsdCase c = kernel_case(one_document(2, 150), 4, groups);
  if (rope) add_rope(c, 150);
  if (skip) add_d_skip(c);
  if (initial) add_initial_state(c);
  const SsdCase gpu = on_gpu(c);
  const auto [dy, dfinal] = kernel_cotangents(gpu);
  require_close_to_f64(gpu, dy, final_gradient ? dfinal : at::Tensor());
}

TEST_CASE("ssd kernels: the final state may be the only result that is used", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  SsdCase c = kernel_case(documents_at({{}, {100}}, 150), 2, 1);
  add_rope(c, 150);
  add_initial_state(c);
  const SsdCase gpu = on_gpu(c);
  require_close_to_f64(gpu, at::Tensor(), kernel_cotangents(gpu).second);
}

TEST_CASE("ssd kernels: close to f64 with documents anywhere in a chunk", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const bool initial = GENERATE(false, true);
  CAPTURE(initial);
  SsdCase c = kernel_case(documents_at({{0, 1, 63, 64, 127, 299},
                                        {},
                                        {100, 101, 102, 103, 128, 129, 192, 256},
                                        {63, 65, 126, 128, 255, 257, 298, 299},
                                        {299}},
                                       300),
                          2, 2);
  add_everything(c);
  if (!initial) c.initial_state.reset();
  require_close_to_f64(on_gpu(c));
}

TEST_CASE("ssd kernels: close to f64 where every token is a document", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  std::vector<int64_t> starts;
  for (int64_t t = 0; t < 131; ++t) starts.push_back(t);
  SsdCase c = kernel_case(documents_at({starts, {130}}, 131), 2, 1);
  add_everything(c);
  require_close_to_f64(on_gpu(c));
}

TEST_CASE("ssd kernels: a sequence that goes on from a state turns by its own positions", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  SsdCase c = kernel_case(ops::one_document_per_row(2, 150, at::kCPU, /*first_position=*/911), 2, 2);
  add_rope(c, 911 + 150);
  add_initial_state(c);
  require_close_to_f64(on_gpu(c));
}

TEST_CASE("ssd kernels: a scaled rotary table scales C and B", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  SsdCase c = kernel_case(documents_at({{70}, {}}, 150), 2, 2);
  add_everything(c);
  const double attention_factor = 1.25;  // as yarn has one
  c.rope = ops::RopeTable{c.rope->cos * attention_factor, c.rope->sin * attention_factor};
  require_close_to_f64(on_gpu(c));
}

TEST_CASE("ssd kernels: the terms by which sums are judged add up to the exact gradients", "[ops][cuda]") {
  SsdCase c = kernel_case(documents_at({{}, {40}}, 150), 2, 2);
  add_everything(c);
  const auto [dy, dfinal] = kernel_cotangents(c);
  const SsdOutcome exact = ssd_outcome(c, dy, dfinal);
  for (const auto& [parameter, values] : contributions(c, exact, dy)) {
    INFO(parameter);
    REQUIRE(relative_error(values.flatten(0, 1).sum(0), exact[parameter]) <= 1e-10);
  }
}

TEST_CASE("ssd kernels: wrong arguments are named with what was expected", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  SsdCase good = kernel_case(one_document(2, 70), 2, 2);
  add_everything(good);
  good = on_gpu(good);
  REQUIRE_NOTHROW(good.run());

  SsdCase c = good;
  const at::Tensor wide_a_log = good.a_log->weight.detach().to(at::kDouble);
  c.a_log = c10::make_intrusive<Parameter>("a_log", wide_a_log, at::Tensor());
  require_error([&] { c.run(); }, "ssd A_log: expected Float, got Double");
  c = good;
  const at::Tensor narrow_bias = good.dt_bias->weight.detach().to(at::kBFloat16);
  c.dt_bias = c10::make_intrusive<Parameter>("dt_bias", narrow_bias, at::Tensor());
  require_error([&] { c.run(); }, "ssd dt_bias: expected Float, got BFloat16");
  c = good;
  c.a_log = c10::make_intrusive<Parameter>("a_log", good.a_log->weight.detach().cpu(), at::Tensor());
  require_error([&] { c.run(); }, "ssd A_log: expected device cuda:0, got cpu");
  c = good;
  c.rope = ops::RopeTable{good.rope->cos.narrow(0, 0, 69), good.rope->sin.narrow(0, 0, 69)};
  require_error([&] { c.run(); }, "ssd rope table: expected at least 70 positions, got 69");
  c = good;
  c.rope = ops::RopeTable{good.rope->cos.cpu(), good.rope->sin.cpu()};
  require_error([&] { c.run(); }, "ssd rope table: expected device cuda:0, got cpu");
  c = good;
  c.documents.positions = good.documents.positions.cpu();
  require_error([&] { c.run(); }, "ssd document positions: expected device cuda:0, got cpu");
  c = good;
  const at::Tensor odd =
      at::zeros({71 * 64 + 1}, good.rope->cos.options()).narrow(0, 1, 70 * 64).view({70, 64});
  c.rope = ops::RopeTable{odd, odd};
  require_error([&] { c.run(); }, "ssd rope table: expected to begin at a multiple of 16 bytes, got 0x");
  c = good;
  c.initial_state = good.initial_state->transpose(2, 3);
  require_error([&] { c.run(); }, "ssd initial state: expected contiguous Float on cuda:0");
  c = good;
  c.dims.num_groups = 3;
  require_error([&] { c.run(); }, "groups that divide 2 heads, got 3");
}

TEST_CASE("ssd kernels: more sequences than a grid has blocks are refused", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  SsdCase c = on_gpu(kernel_case(one_document(1, 1), 1, 1));
  const int64_t batch = 65536, columns = ops::ssd_packed_columns(c.dims);  // 385
  c.packed = at::zeros({batch, 1, 392}, c.packed.options()).narrow(2, 0, columns);
  c.documents = ops::one_document_per_row(batch, 1, kGpu);
  require_error([&] { c.run(); },
                "expected at most 65535 sequences of 8388480 tokens and 65535 heads, got 65536 of 1 and 1");
  at::Tensor state =
      at::zeros({1, 1, 128, 128}, c.packed.options().dtype(at::kFloat)).expand({batch, 1, 128, 128});
  const auto step = [&] {
    ops::ssd_step(c.dims, c.packed.select(1, 0), c.a_log, c.dt_bias, c.d_skip, nullptr,
                  c.documents.positions.select(1, 0), state);
  };
  require_error(step, "ssd_step packed: expected at most 65535 sequences and heads, got 65536 and 1");
}

TEST_CASE("ssd kernels: rows that bulk copies can't read are refused", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  SsdCase c = on_gpu(kernel_case(one_document(2, 70), 2, 2));
  const int64_t columns = ops::ssd_packed_columns(c.dims);  // 770
  const at::Tensor buffer = at::zeros({2, 71, 784}, c.packed.options());
  c.packed = buffer.narrow(1, 0, 70).narrow(2, 4, columns);
  require_error([&] { c.run(); }, "ssd packed: expected to begin at a multiple of 16 bytes, got 0x");
  c.packed = at::zeros({2, 70, columns}, c.packed.options());
  require_error(
      [&] { c.run(); },
      "ssd packed: expected strides of batch and tokens that are multiples of 8, got 53900 and 770");
  c.packed = at::zeros({2, columns, 72}, c.packed.options()).narrow(2, 0, 70).transpose(1, 2);
  require_error([&] { c.run(); },
                "expected at least 770 columns, the last dimension contiguous, got 770 with stride 72");
}
