// Causal attention by plain masked products.
#include "ops/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/TensorOperators.h>
#include <ATen/ops/_softmax.h>
#include <ATen/ops/_softmax_backward_data.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "ops/accumulate_type.h"

namespace transxssm::ops::reference {
namespace {

// Bytes of the scores that exist at once; backward holds about four tensors of this size.
constexpr int64_t kCpuScoreBytes = int64_t{8} << 20;
constexpr int64_t kCudaScoreBytes = int64_t{128} << 20;

// [T, H, P] → [G, R·T, P], R = H/G: all queries that read one key head as one matrix.
at::Tensor by_key_head(const at::Tensor& x_thp, int64_t groups) {
  const int64_t repeat = x_thp.size(1) / groups;
  return x_thp.unflatten(1, {groups, repeat}).permute({1, 2, 0, 3}).reshape({groups, -1, x_thp.size(2)});
}

// The inverse, as a view [T, G, R, P].
at::Tensor by_token(const at::Tensor& x, int64_t tokens) {
  return x.view({x.size(0), -1, tokens, x.size(2)}).permute({2, 0, 1, 3});
}

// a b in the accumulation type, the operands not copied where the device can do that.
at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  if (a.is_cuda() && a.scalar_type() == at::kBFloat16) return at::bmm(a, b, at::kFloat);
  return at::bmm(to_accumulate_type(a), to_accumulate_type(b));
}

// Queries [begin, end) of one row and the keys [0, end) that any of them may see.
struct Block {
  int64_t begin, end;
  at::Tensor q;       // [G, R·(end − begin), P]
  at::Tensor k, v;    // [G, end, P]
  at::Tensor hidden;  // bool [end − begin, end]: true where a key is not seen
};

Block make_block(const AttentionHeads& x, const at::Tensor& ids_bs, int64_t row, int64_t begin, int64_t end) {
  const auto keys = [&](const at::Tensor& of) { return of[row].narrow(0, 0, end).transpose(0, 1); };
  const at::Tensor places = at::arange(end, x.q_bthp.options().dtype(at::kLong));
  const at::Tensor ids = ids_bs[row].narrow(0, 0, end);
  const auto queries = [&](const at::Tensor& of) { return of.narrow(0, begin, end - begin).unsqueeze(1); };
  at::Tensor hidden = places.unsqueeze(0) > queries(places);
  hidden.logical_or_(queries(ids) != ids.unsqueeze(0));
  return {begin,
          end,
          by_key_head(x.q_bthp[row].narrow(0, begin, end - begin), x.k_bsgp.size(2)),
          keys(x.k_bsgp),
          keys(x.v_bsgp),
          std::move(hidden)};
}

double score_scale(const Block& block) { return 1 / std::sqrt(static_cast<double>(block.q.size(2))); }

// Softmax over keys, [G, R·(end − begin), end] in the accumulation type.
at::Tensor probabilities(const Block& block) {
  at::Tensor p = product(block.q, block.k.transpose(1, 2)).mul_(score_scale(block));
  p.view({p.size(0), -1, block.end - block.begin, block.end})
      .masked_fill_(block.hidden, -std::numeric_limits<double>::infinity());
  return at::_softmax_out(p, p, -1, /*half_to_float=*/false);
}

template <class Visit>
void for_each_block(const AttentionHeads& x, const at::Tensor& ids_bs, int64_t row, Visit&& visit) {
  const int64_t tokens = x.q_bthp.size(1);
  const int64_t bytes_per_query =
      x.q_bthp.size(2) * x.k_bsgp.size(1) * static_cast<int64_t>(c10::elementSize(accumulate_type(x.q_bthp)));
  const int64_t budget = x.q_bthp.is_cuda() ? kCudaScoreBytes : kCpuScoreBytes;
  const int64_t step = std::max<int64_t>(1, budget / bytes_per_query);
  for (int64_t begin = 0; begin < tokens; begin += step)
    visit(make_block(x, ids_bs, row, begin, std::min(begin + step, tokens)));
}

}  // namespace

at::Tensor attention_fwd(const AttentionHeads& x, const at::Tensor& ids_bs) {
  const at::Tensor out_bthp = at::empty(x.q_bthp.sizes(), x.q_bthp.options());
  for (int64_t row = 0; row < out_bthp.size(0); ++row) {
    for_each_block(x, ids_bs, row, [&](const Block& block) {
      const at::Tensor p = probabilities(block).to(block.v.scalar_type());
      const int64_t tokens = block.end - block.begin;
      out_bthp[row]
          .narrow(0, block.begin, tokens)
          .unflatten(1, {block.k.size(0), -1})
          .copy_(by_token(at::bmm(p, block.v), tokens));
    });
  }
  return out_bthp;
}

void attention_bwd(const at::Tensor& dout_bthp, const AttentionHeads& x, const at::Tensor& ids_bs,
                   const AttentionHeads& grads) {
  const auto dtype = x.q_bthp.scalar_type();
  const int64_t groups = x.k_bsgp.size(2);
  const at::Tensor dk = at::zeros({groups, x.k_bsgp.size(1), x.k_bsgp.size(3)},
                                  x.q_bthp.options().dtype(accumulate_type(x.q_bthp)));
  const at::Tensor dv = at::zeros_like(dk);
  for (int64_t row = 0; row < x.q_bthp.size(0); ++row) {
    dk.zero_();
    dv.zero_();
    for_each_block(x, ids_bs, row, [&](const Block& block) {
      const int64_t tokens = block.end - block.begin;
      const at::Tensor p = probabilities(block);
      const at::Tensor dout = by_key_head(dout_bthp[row].narrow(0, block.begin, tokens), groups);
      dv.narrow(1, 0, block.end).add_(product(p.to(dtype).transpose(1, 2), dout));
      const at::Tensor dp = product(dout, block.v.transpose(1, 2));
      // p (dp − Σ p dp), the softmax's backward, then the scale of the scores
      const at::Tensor ds =
          at::_softmax_backward_data(dp, p, -1, p.scalar_type()).mul_(score_scale(block)).to(dtype);
      dk.narrow(1, 0, block.end).add_(product(ds.transpose(1, 2), block.q));
      grads.q_bthp[row]
          .narrow(0, block.begin, tokens)
          .unflatten(1, {groups, -1})
          .copy_(by_token(at::bmm(ds, block.k), tokens));
    });
    grads.k_bsgp[row].copy_(dk.transpose(0, 1));
    grads.v_bsgp[row].copy_(dv.transpose(0, 1));
  }
}

}  // namespace transxssm::ops::reference
