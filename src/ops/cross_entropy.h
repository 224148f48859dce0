// The output head and the loss in one operator, so that the logits of a micro-batch never exist at once.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/parameter.h"

namespace transxssm::ops {

// Over the counted labels of N rows; scalars in f32 (f64 for f64), detached.
struct CrossEntropyResult {
  at::Tensor objective;  // scale · Σ (−log p[label] + z_loss · log²Z): what is trained
  at::Tensor loss;       // scale · Σ −log p[label]
};

// logits = hidden Wᵀ (compute dtype), log Z and softmax in f32 (f64 for f64). hidden [N, D]; weight [V, D];
// labels i64 [N], −1 where the label is not counted. Scale 1: sums, not means. Rows go through in chunks of
// cross_entropy_chunk_rows(). CUDA bf16: one kernel reads a chunk's logits once; else: reference.
CrossEntropyResult cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                                 double z_loss = 0.0);

struct CrossEntropyGradient {
  CrossEntropyResult result;
  at::Tensor dhidden;  // [N, D] like hidden: gradient of the objective
};

// The same and the objective's gradient, formed chunk by chunk while the logits exist (CUDA bf16: in their
// place): final, since `scale` is known before. That of the head is added to w->grad, that of hidden is where
// the caller's backward pass starts. `scale`: one f32 (f64) on hidden's device, read there: a captured graph
// sees its current value. No autograd.
CrossEntropyGradient cross_entropy_with_gradient(const at::Tensor& hidden, const ParameterPtr& w,
                                                 const at::Tensor& labels, const at::Tensor& scale,
                                                 double z_loss = 0.0);

struct TokenScores {
  at::Tensor losses;  // f32 (f64 for f64) [N]: −log p[label]
  at::Tensor likely;  // i64 [N]: the most likely token, the first of equals
};

// What the model says of each label, no label −1; otherwise as cross_entropy.
TokenScores token_scores(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels);

// Rows of a chunk (the last one has what is left): all logits that exist at once are [this, V] in the compute
// dtype on CUDA in bf16; elsewhere a few copies of that in the accumulation type.
int64_t cross_entropy_chunk_rows(int64_t rows, int64_t vocabulary, at::Device device, at::ScalarType dtype);

}  // namespace transxssm::ops
