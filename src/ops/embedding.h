// Token embedding.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/parameter.h"

namespace transxssm::ops {

// Row lookup: tokens i64 [B, T], w [V, D] → [B, T, D] in w's dtype. The gradient of a row is the sum over its
// tokens in a fixed order (reproducible), added to w->grad. Token ids were checked when the data was read.
// CUDA: kernels for bf16 with D a multiple of 8, ATen for the rest.
at::Tensor embedding(const at::Tensor& tokens, const ParameterPtr& w);

}  // namespace transxssm::ops
