// Attention on the CPU: the formula, its gradient, precision and what tokens may see.
#include "ops/attention.h"

#include <ATen/core/grad_mode.h>

#include "attention_cases.h"
#include "ops/reference/attention.h"
#include "support/require_error.h"

using namespace transxssm;

namespace {

// Ragged documents in rows 0 and 2, whole rows 1 and 3.
AttentionShape ragged(int64_t head_dim, int64_t num_kv_heads = 2) {
  return {{2, num_kv_heads, head_dim}, 4, 67, {0, 1, 40, 67, 134, 197, 201, 268, 268, 268}, true, 5};
}

struct Result {
  at::Tensor out, gradient;
};

Result forward_backward(const AttentionShape& s, const at::Tensor& packed, const at::Tensor& dout) {
  at::Tensor leaf = packed.detach().clone().set_requires_grad(true);
  const at::Tensor out = run_attention(s, leaf, offsets_of(s));
  out.backward(dout);
  return {out.detach().flatten(0, 1), leaf.grad().flatten(0, 1)};
}

}  // namespace

TEST_CASE("attention: the formula and its gradient in fp64", "[ops]") {
  for (const AttentionShape& shape : small_attention_shapes()) {
    require_literal(attention_case(shape));
    require_gradients(attention_case(shape));
  }
}

TEST_CASE("attention: fp64 documents on both sides of the kernel's tiles give the formula", "[ops]") {
  const int32_t tokens = GENERATE(31, 33, 193, 513);
  require_literal(attention_case({{2, 1, 8}, 1, tokens, {0, tokens / 3, tokens, tokens}, true, 0}));
}

TEST_CASE("attention: f32 and bf16 lose no more than plain products", "[ops]") {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    require_precision(attention_case(ragged(16)), dtype);
    require_precision(attention_case(ragged(64, 1)), dtype);
  }
}

TEST_CASE("attention: token t changes nothing before t, bit for bit", "[ops]") {
  const AttentionShape s = ragged(16);
  const at::Tensor packed = attention_case(s).inputs[0].to(at::kFloat);
  const at::Tensor before = run_attention(s, packed, offsets_of(s));
  const int64_t t = GENERATE(0, 1, 39, 40, 66);
  at::Tensor changed = packed.clone();
  changed.select(1, t).mul_(-3).add_(1);
  const at::Tensor after = run_attention(s, changed, offsets_of(s));
  REQUIRE(same_bits(before.narrow(1, 0, t), after.narrow(1, 0, t)));
  REQUIRE(!same_bits(before.select(1, t), after.select(1, t)));
}

TEST_CASE("attention: a changed document changes no output and no gradient of another, bit for bit",
          "[ops]") {
  const AttentionShape s = ragged(16);
  const at::Tensor packed = attention_case(s).inputs[0].to(at::kFloat);
  const at::Tensor dout = f64_tensor({4, 67, 32}, 11).to(at::kFloat);
  const Result before = forward_backward(s, packed, dout);
  for (size_t d = 0; d + 1 < s.offsets.size(); ++d) {
    const int64_t begin = s.offsets[d], end = s.offsets[d + 1];
    if (begin == end) continue;
    at::Tensor changed = packed.clone(), changed_dout = dout.clone();
    changed.flatten(0, 1).narrow(0, begin, end - begin).mul_(-2).add_(1);
    changed_dout.flatten(0, 1).narrow(0, begin, end - begin).mul_(3);
    const Result after = forward_backward(s, changed, changed_dout);
    for (const auto& [x, y] :
         {std::pair{before.out, after.out}, std::pair{before.gradient, after.gradient}}) {
      REQUIRE(same_bits(x.narrow(0, 0, begin), y.narrow(0, 0, begin)));
      REQUIRE(same_bits(x.narrow(0, end, x.size(0) - end), y.narrow(0, end, x.size(0) - end)));
      REQUIRE(!same_bits(x.narrow(0, begin, end - begin), y.narrow(0, begin, end - begin)));
    }
  }
}

TEST_CASE("attention: plain masked products agree with the flash kernel in fp64", "[ops]") {
  // The second shape needs three blocks of queries: 8 MiB of f64 scores are 436 queries of 2 heads over 1201
  // keys.
  const auto s = GENERATE(ragged(8, 1), AttentionShape{{2, 1, 8}, 1, 1201, {0, 500, 1201}, false, 0});
  const ops::Documents documents = ops::make_documents(offsets_of(s), s.batch, s.seq_len);
  const at::Tensor packed = attention_case(s).inputs[0];
  const auto heads = [](const at::Tensor& x) {
    return ops::AttentionHeads{x.narrow(2, 0, 16).unflatten(2, {2, 8}),
                               x.narrow(2, 16, 8).unflatten(2, {1, 8}),
                               x.narrow(2, 24, 8).unflatten(2, {1, 8})};
  };
  at::Tensor leaf = packed.clone().set_requires_grad(true);
  const at::Tensor flash = ops::attention(s.dims, leaf, nullptr, documents);
  const at::Tensor dout = f64_tensor(flash.sizes(), 5);
  flash.backward(dout);

  const at::Tensor gradient = at::zeros_like(packed);
  REQUIRE(max_abs_diff(ops::reference::attention_fwd(heads(packed), documents.ids).flatten(2), flash) <=
          1e-13);
  ops::reference::attention_bwd(dout.unflatten(2, {2, 8}), heads(packed), documents.ids, heads(gradient));
  REQUIRE(max_abs_diff(gradient, leaf.grad()) <= 1e-12);
}

TEST_CASE("attention: reads a strided view in place and takes a strided gradient", "[ops]") {
  AttentionShape s = small_attention_shapes()[2];
  const int64_t columns = ops::attention_packed_columns(s.dims);
  const at::Tensor wide = f64_tensor({s.batch, s.seq_len, columns + 6}, 3);
  const auto op = [&](const Tensors& x) {
    return Tensors{run_attention(s, x[0].narrow(2, 4, columns), offsets_of(s)).transpose(1, 2)};
  };
  gradcheck(op, {wide}, {});
}

TEST_CASE("attention: scores of several hundred stay finite", "[ops]") {
  const OpCase c = attention_case(ragged(16), true, 20.0);
  for (const at::Tensor& tensor : run_op(c, at::kFloat)) REQUIRE(tensor.isfinite().all().item<bool>());
}

TEST_CASE("attention: the gradient has the same bits in every run", "[ops]") {
  const OpCase c = attention_case(ragged(16, 1));
  REQUIRE(same_bits(run_op(c, at::kFloat)[1], run_op(c, at::kFloat)[1]));
}

TEST_CASE("attention: no-grad mode records nothing", "[ops]") {
  const AttentionShape s = small_attention_shapes()[1];
  at::Tensor packed = attention_case(s).inputs[0].clone().set_requires_grad(true);
  const at::NoGradGuard no_grad;
  REQUIRE(!run_attention(s, packed, offsets_of(s)).requires_grad());
}

TEST_CASE("attention: impossible heads and missing columns are named", "[ops]") {
  AttentionShape s = small_attention_shapes()[1];
  const at::Tensor packed = f64_tensor({2, 5, 23}, 1);
  require_error([&] { run_attention(s, packed, offsets_of(s)); }, "at least 24 columns");
  s.dims.num_kv_heads = 3;
  require_error([&] { run_attention(s, packed, offsets_of(s)); }, "divide the query heads");
}
