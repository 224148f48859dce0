#include "ops/attention_cached.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>

#include "core/check.h"
#include "csrc_cuda/attention/cache_fill_params.h"
#include "csrc_cuda/attention/step_params.h"
#include "ops/attention_heads.h"
#include "ops/check_tensor.h"
#include "ops/cuda_stream.h"
#include "ops/kernel_arguments.h"
#include "ops/reference/attention_step.h"

namespace transxssm::ops {
namespace {

void check_cache(const AttentionDims& d, const at::Tensor& packed, const AttentionCache& cache) {
  expect_shape("attention cache of keys", cache.k_bgsp, {packed.size(0), d.num_kv_heads, -1, d.head_dim});
  expect_shape("attention cache of values", cache.v_bgsp, cache.k_bgsp.sizes());
  for (const at::Tensor& x : {cache.k_bgsp, cache.v_bgsp}) {
    expect_dtype("attention cache", x, packed.scalar_type());
    expect_device("attention cache", x, packed.device());
    expect(x.is_contiguous(), concat("attention cache: expected contiguous, got strides ", x.strides()));
  }
}

bool has_kernels(const AttentionDims& d, const at::Tensor& packed) {
  return d.path == AttentionPath::automatic && packed.is_cuda() && packed.scalar_type() == at::kBFloat16 &&
         (d.head_dim == 64 || d.head_dim == 128);
}

// A table as the kernels read it.
void check_table(const RopeTable& rope, const at::Tensor& packed) {
  for (const at::Tensor& table : {rope.cos, rope.sin}) {
    expect_dtype("attention rope table", table, at::kFloat);
    expect_device("attention rope table", table, packed.device());
    expect(table.is_contiguous(),
           concat("attention rope table: expected contiguous, got strides ", table.strides()));
  }
}

void fill_by_kernel(const AttentionDims& d, const at::Tensor& packed_btw, const RopeTable* rope,
                    AttentionCache& cache) {
  const c10::DeviceGuard guard(packed_btw.device());
  const at::Tensor rows = vector_rows(packed_btw);
  kernels::CacheFillParams p{};
  p.batch = packed_btw.size(0);
  p.tokens = packed_btw.size(1);
  p.capacity = cache.k_bgsp.size(2);
  p.kv_heads = static_cast<int>(d.num_kv_heads);
  p.width = static_cast<int>(d.head_dim);
  p.packed_keys = rows.narrow(1, d.num_heads * d.head_dim, d.head_dim).const_data_ptr();
  p.packed_row_stride = rows.stride(0);
  if (rope) {
    check_table(*rope, packed_btw);
    expect(rope->cos.size(0) >= p.tokens, concat("attention rope table: expected at least ", p.tokens,
                                                 " positions, got ", rope->cos.size(0)));
    p.rope_cos = rope->cos.const_data_ptr<float>();
    p.rope_sin = rope->sin.const_data_ptr<float>();
  }
  p.keys = cache.k_bgsp.mutable_data_ptr();
  p.values = cache.v_bgsp.mutable_data_ptr();
  kernels::cache_fill(p, current_stream(packed_btw));
}

// K, rotated where `rope` is given, and V of every token to the first T places.
void fill(const AttentionDims& d, const at::Tensor& packed_btw, const RopeTable* rope,
          const Documents& documents, AttentionCache& cache) {
  if (has_kernels(d, packed_btw)) return fill_by_kernel(d, packed_btw, rope, cache);
  const AttentionHeads x = rotated_heads(d, packed_btw, rope, documents.positions);
  cache.k_bgsp.narrow(2, 0, documents.seq_len).copy_(x.k_bsgp.transpose(1, 2));
  cache.v_bgsp.narrow(2, 0, documents.seq_len).copy_(x.v_bsgp.transpose(1, 2));
}

// k, v [B, G, P] to each row's place.
void put(AttentionCache& cache, const AttentionHeads& x, const at::Tensor& positions_b) {
  const at::Tensor k = x.k_bsgp.transpose(1, 2), v = x.v_bsgp.transpose(1, 2);  // [B, G, 1, P]
  const at::Tensor place = positions_b.view({-1, 1, 1, 1}).expand(k.sizes());
  cache.k_bgsp.scatter_(2, place, k);
  cache.v_bgsp.scatter_(2, place, v);
}

// On a CPU the values can be read for nothing; on a GPU that would stall the device.
void check_positions(const at::Tensor& positions_b, const AttentionCache& cache) {
  if (!positions_b.is_cpu()) return;
  const int64_t capacity = cache.k_bgsp.size(2);
  const int64_t first = positions_b.min().item<int64_t>(), last = positions_b.max().item<int64_t>();
  expect(first >= 0 && last < capacity,
         concat("attention_step: positions ", first, " to ", last, " lie outside the cache of ", capacity));
}

at::Tensor step_by_kernel(const AttentionDims& d, const at::Tensor& packed_bw, const RopeTable* rope,
                          AttentionCache& cache, const at::Tensor& positions_b) {
  const c10::DeviceGuard guard(packed_bw.device());
  const at::Tensor packed = vector_rows(packed_bw), positions = positions_b.contiguous();
  const at::Tensor out = at::empty({packed.size(0), d.num_heads * d.head_dim}, packed.options());
  kernels::AttentionStepParams p{};
  p.batch = static_cast<int>(packed.size(0));
  p.heads = static_cast<int>(d.num_heads);
  p.kv_heads = static_cast<int>(d.num_kv_heads);
  p.width = static_cast<int>(d.head_dim);
  p.capacity = cache.k_bgsp.size(2);
  p.splits = kernels::attention_step_splits(p.batch, p.heads, p.kv_heads, p.capacity);
  p.packed = packed.const_data_ptr();
  p.packed_row_stride = packed.stride(0);
  if (rope) {
    check_table(*rope, packed);
    p.rope_cos = rope->cos.const_data_ptr<float>();
    p.rope_sin = rope->sin.const_data_ptr<float>();
    p.rope_rows = rope->cos.size(0);
  }
  p.positions = positions.const_data_ptr<int64_t>();
  p.keys = cache.k_bgsp.mutable_data_ptr();
  p.values = cache.v_bgsp.mutable_data_ptr();
  const int64_t floats = kernels::attention_step_floats(p.batch, p.heads, p.width, p.splits);
  const at::Tensor partial = at::empty({floats}, packed.options().dtype(at::kFloat));
  p.partial = partial.mutable_data_ptr<float>();
  p.out = out.mutable_data_ptr();
  kernels::attention_step(p, current_stream(packed));
  return out;
}

}  // namespace

void fill_attention_cache(const AttentionDims& dims, const at::Tensor& packed_btw, const RopeTable* rope,
                          const Documents& documents, AttentionCache& cache) {
  const at::NoGradGuard no_grad;
  expect_shape("attention cache's packed", packed_btw, {documents.batch, documents.seq_len, -1});
  check_attention_arguments(dims, packed_btw, rope);
  check_cache(dims, packed_btw, cache);
  expect(documents.seq_len <= cache.k_bgsp.size(2),
         concat("attention cache: ", documents.seq_len, " tokens exceed its capacity of ",
                cache.k_bgsp.size(2)));
  fill(dims, packed_btw, rope, documents, cache);
}

at::Tensor attention_prefill(const AttentionDims& dims, const at::Tensor& packed_btw, const RopeTable* rope,
                             const Documents& documents, AttentionCache& cache) {
  const at::NoGradGuard no_grad;
  fill_attention_cache(dims, packed_btw, rope, documents, cache);  // first: attention may rotate in packed
  return attention(dims, packed_btw, rope, documents, /*deterministic=*/false);
}

at::Tensor attention_step(const AttentionDims& dims, const at::Tensor& packed_bw, const RopeTable* rope,
                          AttentionCache& cache, const at::Tensor& positions_b) {
  const at::NoGradGuard no_grad;
  expect_shape("attention_step packed", packed_bw, {-1, -1});
  check_attention_arguments(dims, packed_bw, rope);
  check_cache(dims, packed_bw, cache);
  expect_shape("attention_step positions", positions_b, {packed_bw.size(0)});
  expect_dtype("attention_step positions", positions_b, at::kLong);
  expect_device("attention_step positions", positions_b, packed_bw.device());
  check_positions(positions_b, cache);
  if (has_kernels(dims, packed_bw)) return step_by_kernel(dims, packed_bw, rope, cache, positions_b);
  const AttentionHeads x = rotated_heads(dims, packed_bw.unsqueeze(1), rope, positions_b.unsqueeze(1));
  put(cache, x, positions_b);
  return reference::attention_step(x.q_bthp.squeeze(1), cache.k_bgsp, cache.v_bgsp, positions_b).flatten(1);
}

}  // namespace transxssm::ops
