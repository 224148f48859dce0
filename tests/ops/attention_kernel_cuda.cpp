// Attention by cuDNN between rotations: against f64, what must hold bit for bit, and in a CUDA graph.
#include <future>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <torch/csrc/autograd/autograd.h>

#include "attention_cases.h"
#include "csrc_cuda/attention/document_classes.h"
#include "ops/cuda_stream.h"
#include "support/cuda_graph.h"
#include "support/require_error.h"

using namespace transxssm;

namespace {

const at::Device kGpu(at::kCUDA, 0);

bool runs_here(bool deterministic = true) {
  const std::string path = ops::attention_path_description({2, 2, 64}, kGpu, at::kBFloat16, deterministic);
  if (path.find("needs a GPU") != std::string::npos) {
    WARN("skipped: " << path);
    return false;
  }
  INFO(path);
  REQUIRE(path.find("cuDNN, ") == 0);
  return true;
}

// Two rows of 130 tokens: documents that begin at 0, 1, 63, 64, 127 and with the last token, empty ones at
// the end.
AttentionShape awkward(int64_t heads, int64_t kv_heads, int64_t head_dim, bool rope = true) {
  std::vector<int32_t> offsets;
  for (const int32_t row : {0, 130})
    for (const int32_t begin : {0, 1, 63, 64, 127, 129}) offsets.push_back(row + begin);
  offsets.insert(offsets.end(), 6, 260);
  return {{heads, kv_heads, head_dim}, 2, 130, offsets, rope, 8};
}

// Documents of every class of lengths that a deterministic backward pass takes apart.
AttentionShape long_rows(int64_t heads, int64_t kv_heads, int64_t head_dim) {
  return {{heads, kv_heads, head_dim},
          2,
          2100,
          {0, 1100, 1101, 1650, 2100, 2400, 2912, 3425, 3426, 4200, 4200, 4200},
          true,
          0};
}

AttentionShape whole_rows(int64_t heads, int64_t kv_heads, int64_t head_dim, int32_t tokens) {
  return {{heads, kv_heads, head_dim}, 2, tokens, {0, tokens, 2 * tokens}, true, 0};
}

kernels::AttentionShape kernel_shape(const AttentionShape& s, bool deterministic) {
  return {.batch = s.batch,
          .tokens = s.seq_len,
          .documents = static_cast<int64_t>(s.offsets.size()) - 1,
          .heads = static_cast<int>(s.dims.num_heads),
          .kv_heads = static_cast<int>(s.dims.num_kv_heads),
          .width = static_cast<int>(s.dims.head_dim),
          .packed_columns = ops::attention_packed_columns(s.dims) + s.extra_columns,
          .deterministic = deterministic};
}

// Plans of all shapes side by side: where the driver has compiled none yet, most of a second each.
void prepare(const std::vector<AttentionShape>& shapes, bool deterministic) {
  std::vector<std::future<void>> made;
  for (const AttentionShape& s : shapes)
    made.push_back(std::async(
        std::launch::async, [shape = kernel_shape(s, deterministic)] { kernels::prepare_attention(shape); }));
  for (auto& future : made) future.get();
}

struct Result {
  at::Tensor out, gradient;  // [B·T, …]
};

Result forward_backward(const AttentionShape& s, const at::Tensor& packed, const at::Tensor& dout,
                        bool deterministic) {
  at::Tensor leaf = packed.detach().clone().set_requires_grad(true);
  const at::Tensor out = run_attention(s, leaf, offsets_of(s).to(kGpu), deterministic);
  out.backward(dout);
  return {out.detach().flatten(0, 1), leaf.grad().flatten(0, 1)};
}

double distance(const at::Tensor& x, const at::Tensor& exact) {
  return ((x.to(at::kDouble) - exact.to(at::kDouble)).norm() / exact.to(at::kDouble).norm()).item<double>();
}

struct Inputs {
  at::Tensor packed, dout;

  explicit Inputs(const AttentionShape& s)
      : packed(attention_case(s).inputs[0].to(kGpu, at::kBFloat16)),
        dout(f64_tensor({s.batch, s.seq_len, s.dims.num_heads * s.dims.head_dim}, 11)
                 .to(kGpu, at::kBFloat16)) {}
};

// Memory for a kernel's output between margins that it must leave alone.
class Guarded {
 public:
  Guarded(int64_t count, at::ScalarType dtype)
      : all_(at::full({count + 2 * kMargin}, kUntouched, at::TensorOptions(kGpu).dtype(dtype))) {}
  void* begin() const { return inside().mutable_data_ptr(); }
  template <class T>
  T* begin() const {
    return inside().mutable_data_ptr<T>();
  }
  at::Tensor inside() const { return all_.narrow(0, kMargin, all_.numel() - 2 * kMargin); }
  bool margins_untouched() const {
    return (all_.narrow(0, 0, kMargin) == kUntouched).all().item<bool>() &&
           (all_.narrow(0, all_.numel() - kMargin, kMargin) == kUntouched).all().item<bool>();
  }

 private:
  static constexpr int64_t kMargin = 1 << 20;  // whole tiles of a kernel beyond the end
  static constexpr int kUntouched = 119;
  at::Tensor all_;
};

// Both passes through their launchers.
void require_canaries(const AttentionShape& s, bool deterministic) {
  const Inputs in(s);
  const int64_t tokens = s.batch * s.seq_len;
  const auto& d = s.dims;
  const kernels::AttentionShape shape = kernel_shape(s, deterministic);
  const at::Tensor offsets = offsets_of(s).to(kGpu);
  const auto queue = [&](kernels::AttentionPass pass, auto launch) {
    const Guarded tables(kernels::attention_table_words(shape, pass), at::kInt),
        workspace(kernels::attention_workspace_bytes(shape, pass), at::kByte);
    const auto stream = ops::current_stream(in.packed);
    kernels::make_attention_tables({shape, pass, offsets.const_data_ptr<int32_t>(), tables.begin<int32_t>()},
                                   stream);
    launch(tables.begin<int32_t>(), workspace.begin(), stream);
    REQUIRE(tables.margins_untouched());
    REQUIRE(workspace.margins_untouched());
  };
  const int64_t query_row = d.num_heads * d.head_dim, key_row = kernels::attention_key_gradient_row(shape);
  const bool apart = key_row != shape.packed_columns;
  const Guarded out(tokens * query_row, at::kBFloat16), log_sum_exp(tokens * d.num_heads, at::kFloat),
      gradient(in.packed.numel(), at::kBFloat16), d_key(apart ? tokens * key_row : 0, at::kBFloat16),
      d_value(apart ? tokens * key_row : 0, at::kBFloat16);
  const auto column = [&](int64_t first) { return gradient.inside().narrow(0, first, 1).mutable_data_ptr(); };
  queue(kernels::AttentionPass::forward, [&](const int32_t* tables, void* workspace, CUstream_st* stream) {
    kernels::attention_forward(
        {shape, in.packed.const_data_ptr(), tables, out.begin(), log_sum_exp.begin<float>(), workspace},
        stream);
  });
  queue(kernels::AttentionPass::backward, [&](const int32_t* tables, void* workspace, CUstream_st* stream) {
    kernels::attention_backward(
        {shape, in.packed.const_data_ptr(), tables, out.begin(), log_sum_exp.begin<float>(),
         in.dout.const_data_ptr(), gradient.begin(), apart ? d_key.begin() : column(query_row),
         apart ? d_value.begin() : column(query_row + d.num_kv_heads * d.head_dim), workspace},
        stream);
  });
  for (const Guarded* written : {&out, &log_sum_exp, &gradient, &d_key, &d_value})
    REQUIRE(written->margins_untouched());
  const at::Tensor beside =
      gradient.inside()
          .view({tokens, -1})
          .narrow(1, ops::attention_packed_columns(d), in.packed.size(2) - ops::attention_packed_columns(d));
  REQUIRE((beside == 119).all().item<bool>());
}

}  // namespace

TEST_CASE("attention by cuDNN: loses no more than plain products", "[ops][cuda]") {
  const bool deterministic = GENERATE(true, false);
  if (!runs_here(deterministic)) return;
  const std::vector<AttentionShape> shapes = {
      awkward(2, 2, 64),          awkward(2, 2, 128),         awkward(4, 2, 64),
      awkward(4, 1, 128),         awkward(2, 1, 128, false),  long_rows(4, 2, 128),
      long_rows(2, 2, 64),        whole_rows(2, 2, 128, 517), whole_rows(4, 2, 64, 1),
      whole_rows(4, 1, 128, 300), whole_rows(4, 2, 64, 129),  whole_rows(2, 2, 128, 2)};
  prepare(shapes, deterministic);
  for (const AttentionShape& shape : shapes)
    require_precision(attention_case(shape, deterministic), at::kBFloat16, at::kCUDA);
}

TEST_CASE("attention by cuDNN: the deterministic gradient has the same bits in every run", "[ops][cuda]") {
  if (!runs_here()) return;
  for (const AttentionShape& s :
       {awkward(4, 2, 64), long_rows(4, 2, 128), whole_rows(4, 4, 64, 1009), whole_rows(4, 2, 128, 1024)}) {
    const Inputs in(s);
    const Result first = forward_backward(s, in.packed, in.dout, true);
    for (int repeat = 0; repeat < 10; ++repeat) {
      const Result again = forward_backward(s, in.packed, in.dout, true);
      REQUIRE(same_bits(again.out, first.out));
      REQUIRE(same_bits(again.gradient, first.gradient));
    }
  }
}

TEST_CASE("attention by cuDNN: token t changes nothing before t, bit for bit", "[ops][cuda]") {
  if (!runs_here()) return;
  const AttentionShape s = whole_rows(2, 1, 128, 300);
  const Inputs in(s);
  const at::Tensor offsets = offsets_of(s).to(kGpu);
  for (const int64_t t : {0, 1, 63, 64, 200, 299}) {
    at::Tensor changed = in.packed.clone();
    changed.select(1, t).mul_(-3).add_(1);
    const at::Tensor before = run_attention(s, in.packed, offsets),
                     after = run_attention(s, changed, offsets);
    REQUIRE(same_bits(before.narrow(1, 0, t), after.narrow(1, 0, t)));
    REQUIRE(!same_bits(before.select(1, t), after.select(1, t)));
  }
}

TEST_CASE("attention by cuDNN: a changed document changes no output and no gradient of another, bit for bit",
          "[ops][cuda]") {
  if (!runs_here()) return;
  for (const AttentionShape& s :
       {awkward(4, 2, 64), long_rows(2, 2, 128), whole_rows(2, 2, 128, 517), whole_rows(4, 2, 64, 300)}) {
    const Inputs in(s);
    const Result before = forward_backward(s, in.packed, in.dout, true);
    for (size_t d = 0; d + 1 < s.offsets.size(); ++d) {
      const int64_t begin = s.offsets[d], end = s.offsets[d + 1];
      if (begin == end) continue;
      at::Tensor packed = in.packed.clone(), dout = in.dout.clone();
      packed.flatten(0, 1).narrow(0, begin, end - begin).mul_(-2).add_(1);
      dout.flatten(0, 1).narrow(0, begin, end - begin).mul_(3);
      const Result after = forward_backward(s, packed, dout, true);
      for (const auto& [x, y] :
           {std::pair{before.out, after.out}, std::pair{before.gradient, after.gradient}}) {
        REQUIRE(same_bits(x.narrow(0, 0, begin), y.narrow(0, 0, begin)));
        REQUIRE(same_bits(x.narrow(0, end, x.size(0) - end), y.narrow(0, end, x.size(0) - end)));
        REQUIRE(!same_bits(x.narrow(0, begin, end - begin), y.narrow(0, begin, end - begin)));
      }
    }
  }
}

TEST_CASE("attention by cuDNN: whole rows and the same rows among empty documents differ by rounding alone",
          "[ops][cuda]") {
  const bool deterministic = GENERATE(true, false);
  if (!runs_here(deterministic)) return;
  // The last two take their rows one at a time where scores are kept.
  for (const AttentionShape& rows : {whole_rows(4, 4, 128, 640), whole_rows(4, 2, 64, 333),
                                     whole_rows(16, 16, 64, 12288), whole_rows(16, 4, 64, 12288)}) {
    const Inputs in(rows);
    AttentionShape padded = rows;
    padded.offsets.insert(padded.offsets.end(), 3, padded.offsets.back());
    const Result by_rows = forward_backward(rows, in.packed, in.dout, deterministic),
                 by_tables = forward_backward(padded, in.packed, in.dout, deterministic);
    constexpr double kBf16 = 1.0 / 256;
    REQUIRE(distance(by_rows.out, by_tables.out) < kBf16);
    REQUIRE(distance(by_rows.gradient, by_tables.gradient) < kBf16);
  }
}

TEST_CASE("attention by cuDNN: passes write their outputs and nothing beside them", "[ops][cuda]") {
  const bool deterministic = GENERATE(true, false);
  if (!runs_here(deterministic)) return;
  for (const AttentionShape& s : {whole_rows(4, 4, 128, 517), whole_rows(4, 2, 64, 130), awkward(4, 2, 64)})
    require_canaries(s, deterministic);
}

TEST_CASE("attention by cuDNN: a captured graph replays the eager bits, and reads documents anew",
          "[ops][cuda]") {
  if (!runs_here()) return;
  AttentionShape s = long_rows(4, 2, 64);
  const Inputs in(s);
  const ops::RopeTable table = rope_like(in.packed, s.seq_len, s.dims.head_dim);
  const at::Tensor offsets = offsets_of(s).to(kGpu);
  at::Tensor out, gradient;
  const auto step = [&] {
    const at::Tensor leaf = in.packed.detach().set_requires_grad(true);  // its gradient's stream: this one
    const at::Tensor packed = leaf.mul(1);
    out = ops::attention(s.dims, packed, &table, ops::make_documents(offsets, s.batch, s.seq_len));
    gradient = torch::autograd::grad({out}, {leaf}, {in.dout})[0];
  };
  step();  // makes cuDNN's plans
  CapturedGraph graph(step);
  graph.replay();
  const Result first = forward_backward(s, in.packed, in.dout, true);
  REQUIRE(same_bits(out.flatten(0, 1), first.out));
  REQUIRE(same_bits(gradient.flatten(0, 1), first.gradient));

  s.offsets = {0, 2100, 2101, 2102, 2103, 2104, 4000, 4000, 4000, 4000, 4000, 4200};
  offsets.copy_(offsets_of(s));
  graph.replay();
  const Result second = forward_backward(s, in.packed, in.dout, true);
  REQUIRE(same_bits(out.flatten(0, 1), second.out));
  REQUIRE(same_bits(gradient.flatten(0, 1), second.gradient));
}

TEST_CASE(
    "attention by cuDNN: rows with gaps and odd widths are read, leaves and what stands beside them kept",
    "[ops][cuda]") {
  if (!runs_here()) return;
  const AttentionShape s = awkward(2, 1, 64);
  const int64_t columns = ops::attention_packed_columns(s.dims);
  const at::Tensor wide = f64_tensor({s.batch, s.seq_len, columns + 5}, 3).to(kGpu, at::kBFloat16);
  const at::Tensor kept = wide.clone();
  const at::Tensor expected =
      run_attention(s, wide.narrow(2, 3, columns).contiguous(), offsets_of(s).to(kGpu));
  const ops::RopeTable table = rope_like(wide, s.seq_len, s.dims.head_dim);
  const auto documents = ops::make_documents(offsets_of(s).to(kGpu), s.batch, s.seq_len);
  REQUIRE(same_bits(ops::attention(s.dims, wide.narrow(2, 3, columns), &table, documents), expected));
  REQUIRE(same_bits(ops::attention(s.dims, wide.narrow(2, 3, columns + 1), &table, documents), expected));
  REQUIRE(same_bits(wide, kept));
  at::Tensor leaf = wide.narrow(2, 3, columns).contiguous().set_requires_grad(true);
  ops::attention(s.dims, leaf, &table, documents);
  REQUIRE(same_bits(leaf.detach(), kept.narrow(2, 3, columns)));
}

TEST_CASE("attention by cuDNN: who kept the packed tensor for a gradient of its own is told", "[ops][cuda]") {
  if (!runs_here()) return;
  const AttentionShape s = awkward(2, 2, 64);
  at::Tensor leaf = Inputs(s).packed.set_requires_grad(true);
  const at::Tensor packed = leaf.mul(1), square = packed * packed;
  const at::Tensor out = run_attention(s, packed, offsets_of(s).to(kGpu));
  require_error([&] { (square.sum() + out.sum()).backward(); }, "modified by an inplace operation");
}
