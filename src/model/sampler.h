// Choosing the next token.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/rng.h"

namespace transxssm {

struct SamplingOptions {
  double temperature = 1.0;  // 0: the most likely token
  int64_t top_k = 0;         // keep the k most likely; 0: all
  double top_p = 1.0;        // then the fewest whose probabilities sum to at least p
  uint64_t seed = 1;
};

// Draws with counter-based numbers: the same seed gives the same text for the same logits.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {}
  int64_t next(const at::Tensor& logits_v);  // [V], any float type and device

 private:
  SamplingOptions options_;
  Philox random_;
  uint64_t drawn_ = 0;
};

}  // namespace transxssm
