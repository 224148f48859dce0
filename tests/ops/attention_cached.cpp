// Attention with a cache: prefill and decode give what one pass gives.
#include <ATen/ops/zeros.h>

#include "attention_cases.h"
#include "support/require_error.h"

using namespace transxssm;

namespace {

struct Decoding {
  AttentionShape shape;
  at::Tensor packed;
  ops::AttentionCache cache;

  at::Tensor next(int64_t position, int64_t tokens) {
    const ops::RopeTable table = rope_like(packed, shape.seq_len, shape.dims.head_dim);
    return ops::attention_cached(shape.dims, packed.narrow(1, position, tokens),
                                 shape.rope ? &table : nullptr, cache, position);
  }
};

Decoding start(const AttentionShape& s, at::ScalarType dtype) {
  const at::Tensor packed = attention_case(s).inputs[0].to(dtype);
  // Values left from an earlier use of the cache are never read.
  const at::Tensor k =
      at::zeros({s.batch, s.seq_len + 3, s.dims.num_kv_heads, s.dims.head_dim}, packed.options())
          .fill_(std::numeric_limits<double>::quiet_NaN());
  return {s, packed, {k, k.clone()}};
}

// Query heads 4 read key heads 2; one document per row.
AttentionShape rows_of(int32_t tokens, bool rope) {
  return {{4, 2, 8}, 2, tokens, {0, tokens, 2 * tokens}, rope, 3};
}

}  // namespace

TEST_CASE("attention_cached: a prefill split anywhere equals one pass", "[ops]") {
  const bool rope = GENERATE(true, false);
  const AttentionShape s = rows_of(23, rope);
  for (const int64_t split : {0, 1, 11, 22, 23}) {
    Decoding run = start(s, at::kDouble);
    const at::Tensor whole = run_attention(s, run.packed, offsets_of(s));
    if (split > 0) REQUIRE(max_abs_diff(run.next(0, split), whole.narrow(1, 0, split)) <= 1e-13);
    if (split < 23)
      REQUIRE(max_abs_diff(run.next(split, 23 - split), whole.narrow(1, split, 23 - split)) <= 1e-13);
  }
}

TEST_CASE("attention_cached: prefill then token by token equals one pass", "[ops]") {
  const AttentionShape s = rows_of(17, true);
  Decoding run = start(s, at::kDouble);
  const at::Tensor whole = run_attention(s, run.packed, offsets_of(s));
  run.next(0, 5);
  for (int64_t t = 5; t < 17; ++t) REQUIRE(max_abs_diff(run.next(t, 1), whole.narrow(1, t, 1)) <= 1e-13);
}

TEST_CASE("attention_cached: f32 and bf16 lose no more than one pass", "[ops]") {
  const AttentionShape s = rows_of(33, true);
  const at::Tensor exact = literal_attention(s, attention_case(s).inputs[0]);
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    Decoding run = start(s, dtype);
    require_close("prefill", run.next(0, 33), literal_attention(s, run.packed), exact);
  }
}

TEST_CASE("attention_cached: records nothing and refuses tokens beyond the cache", "[ops]") {
  const AttentionShape s = rows_of(7, true);
  Decoding run = start(s, at::kFloat);
  run.packed.set_requires_grad(true);
  REQUIRE(!run.next(0, 7).requires_grad());
  require_error([&] { ops::attention_cached(s.dims, run.packed, nullptr, run.cache, 4); },
                "[4, 11) lie outside the cache of 10");
}
