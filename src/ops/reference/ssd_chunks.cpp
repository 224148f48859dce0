// Loads and stores of the chunked SSD reference, its masks and decays.
#include "ops/reference/ssd_chunks.h"

#include <limits>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "ops/accumulate_type.h"

namespace transxssm::ops::reference {
namespace {

// cos and sin of each token's angles, [K, B, 1, L, N/2]: broadcasts over C and B and over groups.
RopeTable token_angles(const SsdCall& call, at::ScalarType dtype) {
  const Documents& docs = call.documents;
  const at::Tensor positions =
      at::constant_pad_nd(docs.positions, {0, call.padded_len() - docs.seq_len}).flatten();
  const auto rows = [&](const at::Tensor& table) {
    return table.index_select(0, positions)
        .to(dtype)
        .view({docs.batch, call.num_chunks(), 1, call.chunk_len(), table.size(1)})
        .transpose(0, 1);
  };
  return {rows(call.rope.cos), rows(call.rope.sin)};
}

// out = R x for the rotate-half rotation R of `angles`; Rᵀ x if `transposed`. Writes into `out`.
void rotate_into(const at::Tensor& out, const at::Tensor& x, const RopeTable& angles, bool transposed) {
  const int64_t half = x.size(-1) / 2;
  const at::Tensor x1 = x.narrow(-1, 0, half), x2 = x.narrow(-1, half, half);
  at::Tensor out1 = out.narrow(-1, 0, half), out2 = out.narrow(-1, half, half);
  const double sign = transposed ? -1 : 1;
  at::mul_out(out1, x1, angles.cos).addcmul_(x2, angles.sin, -sign);
  at::mul_out(out2, x2, angles.cos).addcmul_(x1, angles.sin, sign);
}

// The C and B columns, a view [2, K, B, G, L, N].
at::Tensor cb_view(const SsdCall& call, const at::Tensor& packed_bklw) {
  const SsdDims& d = call.dims;
  return packed_bklw.narrow(-1, 0, call.cb_columns())
      .unflatten(-1, {2, d.num_groups, d.state_dim})
      .permute({3, 1, 0, 4, 2, 5});
}

// Documents of all tokens, padding included in the row's last one: [B, K, L].
at::Tensor chunk_ids(const SsdCall& call) {
  const Documents& docs = call.documents;
  const int64_t padding = call.padded_len() - docs.seq_len;
  at::Tensor ids = docs.ids;
  if (padding > 0) ids = at::cat({ids, ids.narrow(1, docs.seq_len - 1, 1).expand({-1, padding})}, 1);
  return ids.view({docs.batch, call.num_chunks(), call.chunk_len()});
}

}  // namespace

ChunkMasks make_chunk_masks(const SsdCall& call) {
  const Documents& docs = call.documents;
  const int64_t len = call.chunk_len();
  const at::Tensor ids = chunk_ids(call);
  ChunkMasks masks;
  masks.visible = at::ones({len, len}, ids.options().dtype(at::kBool)).tril();
  // Rows start documents, so B documents for B rows are one document per row: one mask serves all chunks.
  if (docs.offsets.numel() > docs.batch + 1)
    masks.visible = masks.visible.bitwise_and(ids.unsqueeze(-1).eq(ids.unsqueeze(-2)));

  const at::Tensor last = ids.narrow(-1, len - 1, 1);                // [B, K, 1]
  const at::Tensor row_first = ids.narrow(1, 0, 1).narrow(2, 0, 1);  // [B, 1, 1]
  const at::Tensor carried = at::cat({row_first, last.narrow(1, 0, call.num_chunks() - 1)}, 1);
  masks.from_carry = ids.eq(carried).transpose(0, 1).unsqueeze(2);
  masks.reaches_end = ids.eq(last).transpose(0, 1).unsqueeze(2);

  const at::Tensor flat = ids.flatten(1);
  const at::Tensor row_start = call.has_initial_state ? at::zeros_like(flat.narrow(1, 0, 1), at::kBool)
                                                      : at::ones_like(flat.narrow(1, 0, 1), at::kBool);
  const int64_t rest = flat.size(1) - 1;
  masks.starts_alone = at::cat({row_start, flat.narrow(1, 1, rest).ne(flat.narrow(1, 0, rest))}, 1)
                           .view(ids.sizes())
                           .unsqueeze(2);
  return masks;
}

ChunkDecay make_chunk_decay(const at::Tensor& a_bklh, const ChunkMasks& masks) {
  // Sums over each token's own document only, so that no other document enters the rounding. The product is
  // f64: it is small, exact enough for any length, and never rounded to tf32.
  const at::Tensor sums = at::matmul(a_bklh.transpose(2, 3).to(at::kDouble),
                                     masks.visible.to(at::kDouble).transpose(-1, -2));  // [B, K, H, L]
  const at::Tensor s =
      sums.transpose(0, 1).to(a_bklh.scalar_type(), false, false, at::MemoryFormat::Contiguous);
  const at::Tensor last = s.narrow(-1, s.size(-1) - 1, 1);
  ChunkDecay decay;
  decay.s = s.unsqueeze(-1);
  decay.from_carry = s.exp().mul_(masks.from_carry).unsqueeze(-1);
  decay.to_end = (last - s).clamp_max_(0).exp_().mul_(masks.reaches_end).unsqueeze(-1);
  decay.carry = decay.from_carry.narrow(-2, s.size(-1) - 1, 1);
  return decay;
}

at::Tensor pair_decay(const at::Tensor& s, const ChunkMasks& masks) {
  // One pass clamps and masks: e^{−∞} is exactly 0.
  at::Tensor bound = at::zeros(masks.visible.sizes(), s.options())
                         .masked_fill_(masks.visible.logical_not(), -std::numeric_limits<double>::infinity());
  if (bound.dim() == 4) bound = bound.transpose(0, 1).unsqueeze(2);  // [K, B, 1, L, L]
  at::Tensor exponent = at::sub(s, s.transpose(-1, -2));
  return at::minimum_out(exponent, exponent, bound).exp_();
}

at::Tensor packed_chunks(const SsdCall& call, const at::Tensor& packed_btw) {
  const int64_t padding = call.padded_len() - call.documents.seq_len;
  at::Tensor packed = to_accumulate_type(packed_btw.narrow(2, 0, ssd_packed_columns(call.dims)));
  if (padding > 0) packed = at::constant_pad_nd(packed, {0, 0, 0, padding});
  return packed.unflatten(1, {call.num_chunks(), call.chunk_len()});
}

TimeSteps make_time_steps(const SsdCall& call, const at::Tensor& packed_bklw) {
  const int64_t heads = call.dims.num_heads, seq_len = call.documents.seq_len;
  const at::Tensor tau = packed_bklw.narrow(-1, call.cb_columns() + call.x_columns(), heads);
  TimeSteps steps;
  steps.pre_activation = tau + call.dt_bias_h->weight;
  // Above 40, ln(1 + eˣ) is x in f64 too.
  steps.dt = at::softplus(steps.pre_activation, 1, 40);
  steps.dt.flatten(1, 2).narrow(1, seq_len, call.padded_len() - seq_len).zero_();
  return steps;
}

at::Tensor load_cb(const SsdCall& call, const at::Tensor& packed_bklw) {
  const at::Tensor cb = cb_view(call, packed_bklw);
  const at::Tensor by_group = at::empty(cb.sizes(), cb.options());
  if (call.rope.cos.defined())
    rotate_into(by_group, cb, token_angles(call, cb.scalar_type()), /*transposed=*/false);
  else
    by_group.copy_(cb);
  const int64_t repeat = call.dims.num_heads / call.dims.num_groups;
  return by_group.unsqueeze(4).expand({-1, -1, -1, -1, repeat, -1, -1}).flatten(3, 4);
}

void store_cb_gradient(const SsdCall& call, const at::Tensor& dcb, const at::Tensor& grad_bklw) {
  const int64_t groups = call.dims.num_groups, repeat = call.dims.num_heads / groups;
  const at::Tensor by_group =
      repeat == 1 ? dcb : dcb.unflatten(3, {groups, repeat}).sum(4);  // [2, K, B, G, L, N]
  if (!call.rope.cos.defined()) {
    cb_view(call, grad_bklw).copy_(by_group);
    return;
  }
  // Rotated in a buffer of the same layout: half rows straight into the strided gradient take twice as long
  // on a CPU.
  const at::Tensor rotated = at::empty_like(by_group);
  rotate_into(rotated, by_group, token_angles(call, rotated.scalar_type()), /*transposed=*/true);
  cb_view(call, grad_bklw).copy_(rotated);
}

at::Tensor x_view(const SsdCall& call, const at::Tensor& packed_bklw) {
  return packed_bklw.narrow(-1, call.cb_columns(), call.x_columns())
      .unflatten(-1, {call.dims.num_heads, call.dims.head_dim});
}

}  // namespace transxssm::ops::reference
