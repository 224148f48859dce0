// Choosing the next token of every row of a batch.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace transxssm {

struct SamplingOptions {
  double temperature = 1.0;  // 0: the most likely token
  int64_t top_k = 0;         // keep the k most likely; 0: all
  double top_p = 1.0;        // then the fewest whose probabilities sum to at least p
};

// logits_bv [B, V], any float type → i64 [B]. A row's draw depends on its logits and on its number of
// uniforms_b alone, f64 [B], each in (0, 1); not read at temperature 0. Among equal logits the lower id comes
// first. Without a host sync on a GPU.
at::Tensor sample(const at::Tensor& logits_bv, const SamplingOptions& options, const at::Tensor& uniforms_b);

}  // namespace transxssm
