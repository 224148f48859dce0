// Queries, keys and values as heads of a packed projection, for the LibTorch paths of attention.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/attention.h"
#include "ops/reference/attention.h"

namespace transxssm::ops {

// Heads that divide, enough contiguous columns in the last dimension, a table of the heads' width.
void check_attention_arguments(const AttentionDims& d, const at::Tensor& packed, const RopeTable* rope);

// Q and K side by side as heads of one tensor [..., H + G, P]: they are rotated together. A view.
at::Tensor query_key_heads(const AttentionDims& d, const at::Tensor& packed);

// [..., G, P], a view.
at::Tensor value_heads(const AttentionDims& d, const at::Tensor& packed);

// Takes Q and K apart again.
AttentionHeads heads_of(const AttentionDims& d, const at::Tensor& query_key, const at::Tensor& value);

// Q and K of packed [B, T, ≥ columns] rotated into memory of their own; V a view.
AttentionHeads rotated_heads(const AttentionDims& d, const at::Tensor& packed_btw, const RopeTable* rope,
                             const at::Tensor& positions_bt);

}  // namespace transxssm::ops
