// The SSD scan's launchers with every output and all workspace between margins: what is theirs is written,
// nothing beside it.
#include "csrc_cuda/ssd/params.h"
#include "csrc_cuda/ssd/step_params.h"
#include "ops/cuda_stream.h"
#include "ops/kernel_arguments.h"
#include "ssd_kernel_cases.h"
#include "support/guarded.h"

using namespace transxssm;

namespace {

constexpr int64_t kMargin = 64 * 128;  // values of a whole tile
constexpr int64_t kBeside = 24;        // columns of the packed gradient that are nobody's

at::TensorOptions options(at::ScalarType dtype) { return at::TensorOptions(kGpu).dtype(dtype); }

float* f32(const at::Tensor& x) { return x.defined() ? x.mutable_data_ptr<float>() : nullptr; }

kernels::SsdInputs inputs_of(const SsdCase& c) {
  kernels::SsdInputs in{};
  in.batch = static_cast<int>(c.documents.batch);
  in.tokens = static_cast<int>(c.documents.seq_len);
  in.heads = static_cast<int>(c.dims.num_heads);
  in.groups = static_cast<int>(c.dims.num_groups);
  in.packed = c.packed.const_data_ptr();
  in.packed_row_stride = c.packed.stride(1);
  in.packed_batch_stride = c.packed.stride(0);
  in.packed_columns = c.packed.size(2);
  in.a_log = ops::f32_pointer(c.a_log->weight);
  in.dt_bias = ops::f32_pointer(c.dt_bias->weight);
  in.d_skip = c.d_skip ? ops::f32_pointer(c.d_skip->weight) : nullptr;
  if (c.rope) {
    in.rope_cos = ops::f32_pointer(c.rope->cos);
    in.rope_sin = ops::f32_pointer(c.rope->sin);
    in.rope_rows = c.rope->cos.size(0);
  }
  in.positions = c.documents.positions.const_data_ptr<int64_t>();
  in.segments = kernels::ssd_segments(in.batch, in.tokens, in.heads);
  return in;
}

// Both passes as ops::ssd queues them.
class GuardedScan {
 public:
  explicit GuardedScan(const SsdCase& c)
      : c_(c), in_(inputs_of(c)), rows_(c.documents.batch * c.dims.num_heads), tokens_(c.documents.seq_len) {}

  void forward(bool saves_states) {
    kernels::SsdForwardParams p{};
    p.in = in_;
    p.initial_state = c_.initial_state ? ops::f32_pointer(*c_.initial_state) : nullptr;
    const at::Tensor segments = segment_states(nullptr, p.initial_state);
    y = make({in_.batch, tokens_, in_.heads * 128}, at::kBFloat16);
    final_state = make({in_.batch, in_.heads, 128, 128}, at::kFloat);
    p.segment_states = ops::f32_pointer(segments);
    p.y = y.mutable_data_ptr();
    p.final_state = f32(final_state);
    if (saves_states) {
      saved = make({rows_, kernels::ssd_spans(tokens_), 128, 128}, at::kBFloat16);
      p.saved_states = saved.mutable_data_ptr();
    }
    kernels::ssd_forward(p, stream());
    REQUIRE(guarded_.intact());
    for (const at::Tensor& written : {y, final_state}) REQUIRE(Guarded::all_written(written));
    if (saves_states) REQUIRE(Guarded::all_written(saved));
  }

  void backward(const at::Tensor& dy, const at::Tensor& dfinal) {
    kernels::SsdBackwardParams p{};
    p.in = in_;
    p.dy = dy.const_data_ptr();
    p.saved_states = saved.const_data_ptr();
    p.final_gradient = ops::f32_pointer(dfinal);
    const at::Tensor segments = segment_states(p.dy, p.final_gradient);
    p.segment_gradients = ops::f32_pointer(segments);
    p.has_initial_state = c_.initial_state.has_value();
    if (c_.initial_state) d_initial_state = make({in_.batch, in_.heads, 128, 128}, at::kFloat);
    p.d_initial_state = f32(d_initial_state);
    p.d_packed_columns = (ops::ssd_packed_columns(c_.dims) + 7) / 8 * 8 + kBeside;
    d_packed = make({in_.batch, tokens_, p.d_packed_columns}, at::kBFloat16);
    p.d_packed = d_packed.mutable_data_ptr();
    if (in_.groups != in_.heads) d_heads = make({2, in_.batch, tokens_, in_.heads * 128}, at::kBFloat16);
    p.d_heads = d_heads.defined() ? d_heads.mutable_data_ptr() : nullptr;
    for (size_t i = 0; i < c_.parameters().size(); ++i)
      d_parameters.push_back(make({in_.heads}, at::kFloat).zero_());  // which is added to
    p.d_a_log = f32(d_parameters[0]);
    p.d_dt_bias = f32(d_parameters[1]);
    p.d_d_skip = c_.d_skip ? f32(d_parameters[2]) : nullptr;
    for (float** by_token : {&p.pairs, &p.inter, &p.added, &p.direct, &p.skip})
      *by_token = f32(make({rows_, tokens_}, at::kFloat));
    p.anchors = f32(make({rows_, kernels::ssd_spans(tokens_), kernels::kSsdAnchorParts}, at::kFloat));
    p.sums = f32(make({3, rows_, kernels::kSsdSumParts}, at::kFloat));
    kernels::ssd_backward(p, stream());
    REQUIRE(guarded_.intact());
    const int64_t columns = ops::ssd_packed_columns(c_.dims);
    const int64_t first = d_heads.defined() ? 2 * in_.groups * 128 : 0;  // C's and B's are by head then
    REQUIRE(Guarded::all_written(d_packed.narrow(2, first, columns - first)));
    REQUIRE(Guarded::untouched(d_packed.narrow(2, columns, p.d_packed_columns - columns)));
    if (first > 0) REQUIRE(Guarded::untouched(d_packed.narrow(2, 0, first)));
    for (const at::Tensor& written : {d_heads, d_initial_state})
      if (written.defined()) REQUIRE(Guarded::all_written(written));
  }

  at::Tensor y, final_state, saved, d_packed, d_heads, d_initial_state;
  std::vector<at::Tensor> d_parameters;

 private:
  at::Tensor make(at::IntArrayRef shape, at::ScalarType dtype) {
    return guarded_.make(shape, options(dtype));
  }
  CUstream_st* stream() const { return ops::current_stream(c_.packed); }

  at::Tensor segment_states(const void* dy, const float* outer) {
    if (in_.segments == 1) return {};
    const at::Tensor states = make({rows_, in_.segments, 128, 128}, at::kFloat);
    kernels::ssd_carry({in_, dy, outer, f32(states), f32(make({rows_, in_.segments}, at::kFloat))}, stream());
    REQUIRE(guarded_.intact());
    REQUIRE(Guarded::all_written(states));
    return states;
  }

  SsdCase c_;
  kernels::SsdInputs in_;
  int64_t rows_, tokens_;
  Guarded guarded_{kMargin};
};

}  // namespace

TEST_CASE("ssd kernels: nothing is written beside the outputs and the workspace", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  // Both forward kernels, one and several segments, ragged ends.
  const auto [batch, tokens, heads, groups] = GENERATE(table<int64_t, int64_t, int64_t, int64_t>({
      {2, 1, 2, 2},
      {2, 65, 2, 1},
      {2, 128, 3, 3},
      {1, 300, 4, 2},
      {1, 1100, 2, 1},
      {52, 70, 2, 2},
      {26, 1030, 2, 2},
  }));
  const bool everything = GENERATE(true, false);
  CAPTURE(batch, tokens, heads, groups, everything);
  std::vector<std::vector<int64_t>> starts(static_cast<size_t>(batch));
  starts[0] = {tokens / 3, tokens - 1};
  SsdCase c = kernel_case(documents_at(starts, tokens), heads, groups);
  if (everything) add_everything(c);
  c = on_gpu(c);
  auto [dy, dfinal] = kernel_cotangents(c);
  if (!everything) dfinal = at::Tensor();

  GuardedScan scan(c);
  scan.forward(/*saves_states=*/false);
  const at::Tensor inference = scan.y;
  scan.forward(/*saves_states=*/true);
  REQUIRE(same_bits(scan.y, inference));
  scan.backward(dy.to(kGpu), everything ? dfinal.to(kGpu, at::kFloat) : dfinal);

  // And it is the operator's work.
  const SsdOutcome expected = ssd_outcome(c, dy, dfinal);
  REQUIRE(same_bits(scan.y, expected["y"]));
  REQUIRE(same_bits(scan.final_state, expected["final state"]));
  const int64_t first = groups == heads ? 0 : 2 * groups * 128,
                count = ops::ssd_packed_columns(c.dims) - first;
  REQUIRE(same_bits(scan.d_packed.narrow(2, first, count), expected["d packed"].narrow(2, first, count)));
  if (everything) REQUIRE(same_bits(scan.d_initial_state, expected["d initial state"]));
  for (size_t i = 0; i < scan.d_parameters.size(); ++i)
    REQUIRE(same_bits(scan.d_parameters[i], expected["d " + c.parameters()[i]->name]));
}

TEST_CASE("ssd_step on CUDA: nothing is written beside state and output", "[ops][cuda]") {
  const auto dtype = GENERATE(at::kBFloat16, at::kFloat);
  const int64_t batch = GENERATE(1, 3, 40), heads = 3;  // both kernels
  CAPTURE(dtype, batch);
  SsdCase c = kernel_case(ops::one_document_per_row(batch, 1, at::kCPU), heads, 1);
  add_rope(c, 1);
  c = converted(c, dtype, kGpu);
  const at::Tensor packed = c.packed.select(1, 0);
  Guarded guarded(kMargin);
  const at::Tensor y = guarded.make({batch, heads * 128}, options(dtype));
  const at::Tensor state = guarded.make({batch, heads, 128, 128}, options(at::kFloat)).zero_();
  kernels::SsdStepParams p{};
  p.batch = static_cast<int>(batch);
  p.heads = static_cast<int>(heads);
  p.groups = 1;
  p.is_bf16 = dtype == at::kBFloat16;
  p.packed = packed.const_data_ptr();
  p.packed_row_stride = packed.stride(0);
  p.a_log = ops::f32_pointer(c.a_log->weight);
  p.dt_bias = ops::f32_pointer(c.dt_bias->weight);
  p.rope_cos = ops::f32_pointer(c.rope->cos);
  p.rope_sin = ops::f32_pointer(c.rope->sin);
  p.rope_rows = 1;
  p.positions = c.documents.positions.const_data_ptr<int64_t>();
  p.positions_stride = 1;
  p.state = f32(state);
  p.y = y.mutable_data_ptr();
  kernels::ssd_step(p, ops::current_stream(packed));
  REQUIRE(guarded.intact());
  REQUIRE(Guarded::all_written(y));
  at::Tensor expected_state = at::zeros_like(state);
  const at::Tensor expected = ops::ssd_step(c.dims, packed, c.a_log, c.dt_bias, c.d_skip, c.rope_table(),
                                            c.documents.positions.select(1, 0), expected_state);
  REQUIRE(same_bits(y, expected));
  REQUIRE(same_bits(state, expected_state));
}
