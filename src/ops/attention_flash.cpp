// LibTorch's flash attention, given documents.
#include "ops/attention_flash.h"

#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/empty.h>

#include "core/check.h"
#include "ops/accumulate_type.h"

namespace transxssm::ops {
namespace {

// The same tokens [begin, begin + tokens) of `rows` consecutive rows.
struct Span {
  int64_t row, rows, begin, tokens;

  // [B, T, H, P] → [rows, H, tokens, P], a view.
  at::Tensor of(const at::Tensor& x) const {
    return x.narrow(0, row, rows).narrow(1, begin, tokens).transpose(1, 2);
  }
};

// Documents as spans, neighbouring rows of one document each joined. Empty documents fall out.
std::vector<Span> spans_of(const Documents& documents) {
  std::vector<Span> spans;
  const int32_t* offsets = documents.offsets.const_data_ptr<int32_t>();
  for (int64_t d = 0; d + 1 < documents.offsets.numel(); ++d) {
    const int64_t tokens = offsets[d + 1] - offsets[d];
    if (tokens == 0) continue;
    const int64_t row = offsets[d] / documents.seq_len, begin = offsets[d] % documents.seq_len;
    if (tokens == documents.seq_len && !spans.empty() && spans.back().tokens == tokens)
      ++spans.back().rows;
    else
      spans.push_back({row, 1, begin, tokens});
  }
  return spans;
}

// The CPU kernel wants as many key heads as query heads: query heads r, r + R, r + 2R, … (R = H/G) read key
// heads 0, 1, 2, … The r-th such subset of [rows, H, tokens, P] is a view.
at::Tensor head_subset(const at::Tensor& x, int64_t r, int64_t repeat) {
  return x.slice(1, r, x.size(1), repeat);
}

int64_t head_repeat(const AttentionHeads& x) { return x.q_bthp.size(2) / x.k_bsgp.size(2); }

FlashResult cpu_fwd(const AttentionHeads& x, const Documents& documents) {
  const auto sizes = x.q_bthp.sizes();
  const at::Tensor out_bthp = at::empty(sizes, x.q_bthp.options());
  const at::Tensor log_sum_exp_bth =
      at::empty(sizes.slice(0, 3), x.q_bthp.options().dtype(accumulate_type(x.q_bthp)));
  const int64_t repeat = head_repeat(x);
  for (const Span& span : spans_of(documents)) {
    const at::Tensor k = span.of(x.k_bsgp), v = span.of(x.v_bsgp);
    for (int64_t r = 0; r < repeat; ++r) {
      const auto [out, log_sum_exp] = at::_scaled_dot_product_flash_attention_for_cpu(
          head_subset(span.of(x.q_bthp), r, repeat), k, v, /*dropout_p=*/0, /*is_causal=*/true);
      head_subset(span.of(out_bthp), r, repeat).copy_(out);
      head_subset(span.of(log_sum_exp_bth), r, repeat).copy_(log_sum_exp);
    }
  }
  return {out_bthp, {log_sum_exp_bth}};
}

void cpu_bwd(const at::Tensor& dout_bthp, const AttentionHeads& x, const FlashResult& result,
             const Documents& documents, const AttentionHeads& grads) {
  const int64_t repeat = head_repeat(x);
  for (const Span& span : spans_of(documents)) {
    const at::Tensor k = span.of(x.k_bsgp), v = span.of(x.v_bsgp);
    for (int64_t r = 0; r < repeat; ++r) {
      const auto subset = [&](const at::Tensor& of) { return head_subset(span.of(of), r, repeat); };
      const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
          subset(dout_bthp), subset(x.q_bthp), k, v, subset(result.out_bthp), subset(result.saved[0]),
          /*dropout_p=*/0, /*is_causal=*/true);
      subset(grads.q_bthp).copy_(dq);
      r ? span.of(grads.k_bsgp).add_(dk) : span.of(grads.k_bsgp).copy_(dk);
      r ? span.of(grads.v_bsgp).add_(dv) : span.of(grads.v_bsgp).copy_(dv);
    }
  }
}

// [B, T, H, P] → [B·T, H, P]
at::Tensor all_tokens(const at::Tensor& x_bthp) { return x_bthp.flatten(0, 1); }

FlashResult cuda_fwd(const AttentionHeads& x, const Documents& documents) {
  const auto [out, log_sum_exp, rng_state, unused, debug] = at::_flash_attention_forward(
      all_tokens(x.q_bthp), all_tokens(x.k_bsgp), all_tokens(x.v_bsgp), documents.offsets, documents.offsets,
      documents.seq_len, documents.seq_len, /*dropout_p=*/0, /*is_causal=*/true, /*return_debug_mask=*/false);
  return {out.view(x.q_bthp.sizes()), {log_sum_exp, rng_state, unused}};
}

void cuda_bwd(const at::Tensor& dout_bthp, const AttentionHeads& x, const FlashResult& result,
              const Documents& documents, const AttentionHeads& grads) {
  const auto [dq, dk, dv] = at::_flash_attention_backward(
      all_tokens(dout_bthp), all_tokens(x.q_bthp), all_tokens(x.k_bsgp), all_tokens(x.v_bsgp),
      all_tokens(result.out_bthp), result.saved[0], documents.offsets, documents.offsets, documents.seq_len,
      documents.seq_len, /*dropout_p=*/0, /*is_causal=*/true, result.saved[1], result.saved[2]);
  grads.q_bthp.copy_(dq.view(x.q_bthp.sizes()));
  grads.k_bsgp.copy_(dk.view(x.k_bsgp.sizes()));
  grads.v_bsgp.copy_(dv.view(x.v_bsgp.sizes()));
}

}  // namespace

bool flash_attention_fits(at::Device device, at::ScalarType dtype, int64_t head_dim) {
  return device.is_cpu() || (dtype == at::kBFloat16 && head_dim % 8 == 0 && head_dim <= 256);
}

FlashResult flash_attention_fwd(const AttentionHeads& x, const Documents& documents) {
  return x.q_bthp.is_cuda() ? cuda_fwd(x, documents) : cpu_fwd(x, documents);
}

void flash_attention_bwd(const at::Tensor& dout_bthp, const AttentionHeads& x, const FlashResult& result,
                         const Documents& documents, const AttentionHeads& grads) {
  x.q_bthp.is_cuda() ? cuda_bwd(dout_bthp, x, result, documents, grads)
                     : cpu_bwd(dout_bthp, x, result, documents, grads);
}

}  // namespace transxssm::ops
