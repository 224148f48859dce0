// Attention with a cache: prefill and decode give what one pass gives.
#include "ops/attention_cached.h"

#include <ATen/ops/full.h>

#include "attention_cases.h"
#include "support/require_error.h"

using namespace transxssm;

namespace {

struct Decoding {
  AttentionShape shape;
  at::Tensor packed;
  ops::AttentionCache cache;
  ops::RopeTable table;

  const ops::RopeTable* rope() const { return shape.rope ? &table : nullptr; }

  // The first `tokens` of every row.
  at::Tensor prefill(int64_t tokens) {
    return ops::attention_prefill(shape.dims, packed.narrow(1, 0, tokens), rope(),
                                  ops::one_document_per_row(shape.batch, tokens, at::kCPU), cache);
  }
  // Of row b its token positions[b].
  at::Tensor step(const std::vector<int64_t>& positions) {
    Tensors rows;
    for (size_t b = 0; b < positions.size(); ++b)
      rows.push_back(packed[static_cast<int64_t>(b)][positions[b]]);
    return ops::attention_step(shape.dims, at::stack(rows), rope(), cache, at::tensor(positions, at::kLong));
  }
};

Decoding start(const AttentionShape& s, at::ScalarType dtype) {
  const at::Tensor packed = attention_case(s).inputs[0].to(dtype);
  // Values left from an earlier use of the cache change nothing.
  const at::Tensor left =
      at::full({s.batch, s.dims.num_kv_heads, s.seq_len + 3, s.dims.head_dim}, 1e4, packed.options());
  return {s, packed, {left, left.clone()}, rope_like(packed, s.seq_len, s.dims.head_dim)};
}

// Query heads 4 read key heads 2; one document per row.
AttentionShape rows_of(int32_t tokens, bool rope) {
  return {{4, 2, 8}, 2, tokens, {0, tokens, 2 * tokens}, rope, 3};
}

}  // namespace

TEST_CASE("attention_cached: prefill then token by token equals one pass", "[ops]") {
  const AttentionShape s = rows_of(23, GENERATE(true, false));
  const int64_t split = GENERATE(1, 11, 22, 23);
  Decoding run = start(s, at::kDouble);
  const at::Tensor whole = run_attention(s, run.packed, offsets_of(s));
  REQUIRE(max_abs_diff(run.prefill(split), whole.narrow(1, 0, split)) <= 1e-13);
  for (int64_t t = split; t < 23; ++t) REQUIRE(max_abs_diff(run.step({t, t}), whole.select(1, t)) <= 1e-13);
}

TEST_CASE("attention_cached: rows stand at positions of their own", "[ops]") {
  const AttentionShape s = rows_of(23, true);
  Decoding run = start(s, at::kDouble);
  const at::Tensor whole = run_attention(s, run.packed, offsets_of(s));
  run.prefill(9);  // behind row 0's fourth token lies padding
  for (int64_t t = 0; t < 14; ++t) {
    const at::Tensor out = run.step({4 + t, 9 + t});
    REQUIRE(max_abs_diff(out[0], whole[0][4 + t]) <= 1e-13);
    REQUIRE(max_abs_diff(out[1], whole[1][9 + t]) <= 1e-13);
  }
}

TEST_CASE("attention_cached: f32 and bf16 lose no more than one pass", "[ops]") {
  const AttentionShape s = rows_of(33, true);
  const at::Tensor exact = literal_attention(s, attention_case(s).inputs[0]);
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    Decoding run = start(s, dtype);
    const at::Tensor literal = literal_attention(s, run.packed);
    require_close("prefill", run.prefill(32), literal.narrow(1, 0, 32), exact.narrow(1, 0, 32));
    require_close("step", run.step({32, 32}), literal.select(1, 32), exact.select(1, 32));
  }
}

TEST_CASE("attention_cached: records nothing and refuses tokens beyond the cache", "[ops]") {
  const AttentionShape s = rows_of(7, true);
  Decoding run = start(s, at::kFloat);
  run.packed.set_requires_grad(true);
  REQUIRE(!run.prefill(7).requires_grad());
  run.cache = {run.cache.k_bgsp.narrow(2, 0, 5).contiguous(), run.cache.v_bgsp.narrow(2, 0, 5).contiguous()};
  require_error([&] { run.prefill(7); }, "7 tokens exceed its capacity of 5");
  require_error([&] { run.step({0, 5}); }, "positions 0 to 5 lie outside the cache of 5");
}
