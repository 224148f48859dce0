// Depthwise causal convolution with SiLU, of the Mamba-2 block.
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

#include "core/parameter.h"
#include "ops/documents.h"

namespace transxssm::ops {

// For the first C = w.size(0) columns: y_t = silu(bias + Σ_{k<K} w[:, k] ⊙ x_{t−(K−1)+k}), taps of other
// documents count as 0. Columns from C on are passed through unchanged. x_btw [B, T, ≥ C] f32|bf16|f64 (any
// row stride), w [C, K] f32, bias [C] f32. initial_bkc [B, K−1, C]: the inputs before each row's first token
// (that of its first document), or none. Computed in f32 (f64 for f64); y like x, contiguous. Differentiable
// in x, w and bias. CUDA: kernels for bf16 without initial inputs, K from 2 to 4, columns in fours; ATen for
// the rest.
at::Tensor causal_conv1d(const at::Tensor& x_btw, const ParameterPtr& w, const ParameterPtr& bias,
                         const Documents& documents,
                         const std::optional<at::Tensor>& initial_bkc = std::nullopt);

// One token for decoding: x_bw [B, ≥ C]; window_bkc [B, K−1, C] holds the last inputs and is shifted in
// place.
at::Tensor causal_conv1d_step(const at::Tensor& x_bw, const ParameterPtr& w, const ParameterPtr& bias,
                              at::Tensor& window_bkc);

}  // namespace transxssm::ops
