#include "model/prompts.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>

#include "core/check.h"

namespace transxssm {

Prompts make_prompts(const at::Tensor& tokens_bt, const std::vector<int64_t>& lengths) {
  const int64_t batch = tokens_bt.size(0), tokens = tokens_bt.size(1);
  expect(static_cast<int64_t>(lengths.size()) == batch,
         concat("prompts: expected ", batch, " lengths, got ", lengths.size()));
  const auto [shortest, longest] = std::minmax_element(lengths.begin(), lengths.end());
  expect(*shortest >= 1 && *longest <= tokens,
         concat("prompts: expected lengths from 1 to ", tokens, ", got ", *shortest, " to ", *longest));
  Prompts out{tokens_bt,
              at::tensor(lengths, at::kLong).to(tokens_bt.device()),
              {},
              ops::one_document_per_row(batch, tokens, tokens_bt.device())};
  if (*shortest < tokens)
    out.padding_bt = at::arange(tokens, out.lengths_b.options()) >= out.lengths_b.unsqueeze(1);
  return out;
}

at::Tensor last_tokens(const Prompts& prompts, const at::Tensor& x_btd) {
  const at::Tensor& lengths = prompts.lengths_b;
  const at::Tensor row = at::arange(lengths.size(0), lengths.options()) * x_btd.size(1) + lengths - 1;
  return x_btd.flatten(0, 1).index_select(0, row);
}

at::Tensor last_window(const Prompts& prompts, const at::Tensor& x_btc, int64_t count) {
  const at::Tensor back = at::arange(-count, 0, prompts.lengths_b.options());
  const at::Tensor place = (prompts.lengths_b.unsqueeze(1) + back).unsqueeze(2);  // [B, count, 1]
  return x_btc.gather(1, place.clamp_min(0).expand({-1, -1, x_btc.size(2)})).masked_fill_(place < 0, 0);
}

}  // namespace transxssm
