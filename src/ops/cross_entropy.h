// The output head and the loss in one operator, so that the logits of a micro-batch never exist at once.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/parameter.h"

namespace transxssm::ops {

struct CrossEntropyResult {
  at::Tensor objective;  // f32 scalar, differentiable: Σ (−log p[label] + z_loss · log²Z) over counted labels
  at::Tensor loss;       // f32 scalar, detached: Σ −log p[label] over counted labels
};

// logits = hidden Wᵀ (compute dtype), log Z and softmax in f32 (f64 for f64). hidden [N, D]; w [V, D]; labels
// i64 [N], −1 where the label is not counted. Sums, not means: the caller divides by the counted labels of
// the global batch. Rows go through in chunks; each chunk's gradient is formed while its logits exist.
// Differentiable in hidden and w.
CrossEntropyResult cross_entropy(const at::Tensor& hidden, const ParameterPtr& w, const at::Tensor& labels,
                                 double z_loss = 0.0);

}  // namespace transxssm::ops
