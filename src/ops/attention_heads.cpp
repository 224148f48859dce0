#include "ops/attention_heads.h"

#include <ATen/ops/empty.h>

#include "core/check.h"
#include "ops/check_tensor.h"
#include "ops/rotate_into.h"

namespace transxssm::ops {

void check_attention_arguments(const AttentionDims& d, const at::Tensor& packed, const RopeTable* rope) {
  expect(d.num_heads > 0 && d.num_kv_heads > 0 && d.head_dim > 0 && d.num_heads % d.num_kv_heads == 0,
         concat("attention: expected key heads that divide the query heads, got ", d.num_heads, " and ",
                d.num_kv_heads, " of width ", d.head_dim));
  expect(packed.size(-1) >= attention_packed_columns(d) && packed.stride(-1) == 1,
         concat("attention packed: expected at least ", attention_packed_columns(d),
                " columns, the last dimension contiguous, got ", packed.size(-1), " with stride ",
                packed.stride(-1)));
  if (rope) expect_shape("attention rope table", rope->cos, {-1, d.head_dim / 2});
}

at::Tensor query_key_heads(const AttentionDims& d, const at::Tensor& packed) {
  const int64_t heads = d.num_heads + d.num_kv_heads;
  return packed.narrow(-1, 0, heads * d.head_dim).unflatten(-1, {heads, d.head_dim});
}

at::Tensor value_heads(const AttentionDims& d, const at::Tensor& packed) {
  const int64_t begin = (d.num_heads + d.num_kv_heads) * d.head_dim;
  return packed.narrow(-1, begin, d.num_kv_heads * d.head_dim).unflatten(-1, {d.num_kv_heads, d.head_dim});
}

AttentionHeads heads_of(const AttentionDims& d, const at::Tensor& query_key, const at::Tensor& value) {
  return {query_key.narrow(-2, 0, d.num_heads), query_key.narrow(-2, d.num_heads, d.num_kv_heads), value};
}

AttentionHeads rotated_heads(const AttentionDims& d, const at::Tensor& packed_btw, const RopeTable* rope,
                             const at::Tensor& positions_bt) {
  const at::Tensor query_key = query_key_heads(d, packed_btw);
  if (!rope) return heads_of(d, query_key, value_heads(d, packed_btw));
  const at::Tensor rotated = at::empty(query_key.sizes(), query_key.options());
  rotate_half_into(rotated, query_key, *rope, positions_bt);
  return heads_of(d, rotated, value_heads(d, packed_btw));
}

}  // namespace transxssm::ops
