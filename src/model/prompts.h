// Prompts of a batch side by side, the shorter ones padded on the right: no token sees what comes after it,
// so only what is kept of a row's end has to know where that end is.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ops/documents.h"

namespace transxssm {

struct Prompts {
  at::Tensor tokens_bt;   // i64 [B, T]; any valid ids behind a row's prompt
  at::Tensor lengths_b;   // i64 [B], 1 to T
  at::Tensor padding_bt;  // bool [B, T], true behind a row's prompt; undefined where every row has T tokens
  ops::Documents documents;  // one a row
};

// `lengths` of the rows, 1 to T each.
Prompts make_prompts(const at::Tensor& tokens_bt, const std::vector<int64_t>& lengths);

// Of x_btd [B, T, D] the rows of each prompt's last token, [B, D].
at::Tensor last_tokens(const Prompts& prompts, const at::Tensor& x_btd);

// Of x_btc [B, T, C] the last `count` tokens of each prompt, [B, count, C]; zeros before a prompt's first
// token.
at::Tensor last_window(const Prompts& prompts, const at::Tensor& x_btc, int64_t count);

}  // namespace transxssm
