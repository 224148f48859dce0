// Attention as one autograd Function from the packed projection to the heads' output, and its decode step.
#include "ops/attention.h"

#include <optional>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/check.h"
#include "ops/attention_flash.h"
#include "ops/attention_kernel.h"
#include "ops/check_tensor.h"
#include "ops/reference/attention.h"
#include "ops/rotate_into.h"

namespace transxssm::ops {
namespace {

// The arguments that carry no gradient, kept for backward.
struct AttentionCall : torch::CustomClassHolder {
  AttentionDims dims;
  std::optional<RopeTable> rope;
  Documents documents;
  bool flash = false;
};
using AttentionCallPtr = c10::intrusive_ptr<AttentionCall>;

// Q and K side by side as heads of one tensor [B, T, H + G, P]: they are rotated together. A view.
at::Tensor query_key_heads(const AttentionDims& d, const at::Tensor& packed) {
  const int64_t heads = d.num_heads + d.num_kv_heads;
  return packed.narrow(2, 0, heads * d.head_dim).unflatten(2, {heads, d.head_dim});
}

at::Tensor value_heads(const AttentionDims& d, const at::Tensor& packed) {
  const int64_t begin = (d.num_heads + d.num_kv_heads) * d.head_dim;
  return packed.narrow(2, begin, d.num_kv_heads * d.head_dim).unflatten(2, {d.num_kv_heads, d.head_dim});
}

AttentionHeads heads_of(const AttentionDims& d, const at::Tensor& query_key, const at::Tensor& value) {
  return {query_key.narrow(2, 0, d.num_heads), query_key.narrow(2, d.num_heads, d.num_kv_heads), value};
}

AttentionHeads rotated_heads(const AttentionDims& d, const at::Tensor& packed, const RopeTable* rope,
                             const at::Tensor& positions) {
  const at::Tensor query_key = query_key_heads(d, packed);
  if (!rope) return heads_of(d, query_key, value_heads(d, packed));
  const at::Tensor rotated = at::empty(query_key.sizes(), query_key.options());
  rotate_half_into(rotated, query_key, *rope, positions);
  return heads_of(d, rotated, value_heads(d, packed));
}

// On CUDA the order of its sums varies.
bool takes_flash(const AttentionDims& d, at::Device device, at::ScalarType dtype, bool deterministic) {
  return flash_attention_fits(device, dtype, d.head_dim) && !(device.is_cuda() && deterministic);
}

struct Attention : torch::autograd::Function<Attention> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& packed,
                            const AttentionCallPtr& call) {
    const RopeTable* rope = call->rope ? &*call->rope : nullptr;
    const AttentionHeads x = rotated_heads(call->dims, packed, rope, call->documents.positions);
    FlashResult result;
    if (call->flash)
      result = flash_attention_fwd(x, call->documents);
    else
      result.out_bthp = reference::attention_fwd(x, call->documents.ids);
    const at::Tensor out = result.out_bthp.flatten(2);
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    torch::autograd::variable_list saved{packed};
    if (call->flash) saved.push_back(out);
    saved.insert(saved.end(), result.saved.begin(), result.saved.end());
    ctx->save_for_backward(saved);
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto call = c10::static_intrusive_pointer_cast<AttentionCall>(ctx->saved_data["call"].toCapsule());
    const AttentionDims& d = call->dims;
    const RopeTable* rope = call->rope ? &*call->rope : nullptr;
    const at::Tensor& positions = call->documents.positions;
    const auto saved = ctx->get_saved_variables();
    const at::Tensor& packed = saved[0];
    const AttentionHeads x = rotated_heads(d, packed, rope, positions);

    const at::Tensor d_packed = at::empty(packed.sizes(), packed.options());
    const int64_t columns = attention_packed_columns(d);
    d_packed.narrow(2, columns, packed.size(2) - columns).zero_();
    const at::Tensor d_query_key = query_key_heads(d, d_packed);
    const at::Tensor d_rotated = rope ? at::empty(d_query_key.sizes(), packed.options()) : d_query_key;
    const AttentionHeads dx = heads_of(d, d_rotated, value_heads(d, d_packed));
    const at::Tensor dout = grads[0].contiguous().unflatten(2, {d.num_heads, d.head_dim});
    if (call->flash) {
      const at::Tensor out = saved[1].view(dout.sizes());
      flash_attention_bwd(dout, x, {out, {saved.begin() + 2, saved.end()}}, call->documents, dx);
    } else {
      reference::attention_bwd(dout, x, call->documents.ids, dx);
    }
    if (rope) rotate_half_into(d_query_key, d_rotated, *rope, positions, /*inverse=*/true);
    return {d_packed, {}};
  }
};

void check_arguments(const AttentionDims& d, const at::Tensor& packed, const RopeTable* rope) {
  expect(d.num_heads > 0 && d.num_kv_heads > 0 && d.head_dim > 0 && d.num_heads % d.num_kv_heads == 0,
         concat("attention: expected key heads that divide the query heads, got ", d.num_heads, " and ",
                d.num_kv_heads, " of width ", d.head_dim));
  expect(packed.size(2) >= attention_packed_columns(d) && packed.stride(2) == 1,
         concat("attention packed: expected at least ", attention_packed_columns(d),
                " columns, the last dimension contiguous, got ", packed.size(2), " with stride ",
                packed.stride(2)));
  if (rope) expect_shape("attention rope table", rope->cos, {-1, d.head_dim / 2});
}

}  // namespace

at::Tensor attention(const AttentionDims& dims, const at::Tensor& packed_btw, const RopeTable* rope,
                     const Documents& documents, bool deterministic) {
  expect_shape("attention packed", packed_btw, {documents.batch, documents.seq_len, -1});
  check_arguments(dims, packed_btw, rope);
  if (!why_no_attention_kernel(dims, packed_btw.device(), packed_btw.scalar_type()))
    return attention_kernel(dims, packed_btw, rope, documents, deterministic);
  auto call = c10::make_intrusive<AttentionCall>();
  call->dims = dims;
  if (rope) call->rope = *rope;
  call->documents = documents;
  call->flash = takes_flash(dims, packed_btw.device(), packed_btw.scalar_type(), deterministic);
  return Attention::apply(packed_btw, call);
}

std::string attention_path_description(const AttentionDims& dims, at::Device device, at::ScalarType dtype,
                                       bool deterministic) {
  const char* reason = why_no_attention_kernel(dims, device, dtype);
  if (!reason)
    return deterministic ? "cuDNN, the same bits in every run"
                         : "cuDNN, the same bits in every run but for rows of one document each";
  const bool flash = takes_flash(dims, device, dtype, deterministic);
  return concat(flash ? "LibTorch's flash attention (" : "plain masked products (", reason, ")");
}

at::Tensor attention_cached(const AttentionDims& dims, const at::Tensor& packed_btw, const RopeTable* rope,
                            AttentionCache& cache, int64_t position) {
  const int64_t batch = packed_btw.size(0), tokens = packed_btw.size(1);
  expect_shape("attention_cached packed", packed_btw, {-1, -1, -1});
  check_arguments(dims, packed_btw, rope);
  expect_shape("attention_cached keys", cache.k_bsgp, {batch, -1, dims.num_kv_heads, dims.head_dim});
  expect_shape("attention_cached values", cache.v_bsgp, cache.k_bsgp.sizes());
  expect(position >= 0 && position + tokens <= cache.k_bsgp.size(1),
         concat("attention_cached: tokens [", position, ", ", position + tokens,
                ") lie outside the cache of ", cache.k_bsgp.size(1)));

  const at::NoGradGuard no_grad;
  const at::Tensor positions =
      at::arange(position, position + tokens, packed_btw.options().dtype(at::kLong)).expand({batch, tokens});
  AttentionHeads x = rotated_heads(dims, packed_btw, rope, positions);
  cache.k_bsgp.narrow(1, position, tokens).copy_(x.k_bsgp);
  cache.v_bsgp.narrow(1, position, tokens).copy_(x.v_bsgp);
  x.k_bsgp = cache.k_bsgp.narrow(1, 0, position + tokens);
  x.v_bsgp = cache.v_bsgp.narrow(1, 0, position + tokens);
  return reference::attention_fwd(x, {}).flatten(2);
}

}  // namespace transxssm::ops
