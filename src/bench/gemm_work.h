// Matrix products with a parameter: which ones a configuration has, and how fast each of cuBLASLt's
// algorithms for them is.
#pragma once

#include <string>
#include <vector>

#include "config/model_config.h"
#include "csrc_cuda/gemm/params.h"

namespace transxssm::bench {

// Of a training step with micro-batches of so many tokens, each once: every packed projection, the MLP, the
// head on a chunk of rows; forward, input gradient, weight gradient.
std::vector<kernels::GemmShape> gemm_shapes(const ModelConfig& config, int64_t tokens);

struct GemmTiming {
  kernels::GemmShape shape;
  double first_ms = 0;   // cuBLASLt's first proposal
  double chosen_ms = 0;  // what ops::gemm takes
  double best_ms = 0;    // with a search: the best of all proposals
  kernels::GemmAlgorithm best{};
};

// On random inputs, medians of runs that take turns.
GemmTiming time_gemm(const kernels::GemmShape& shape, int repeats);

// Times every proposal for a moment, then those that come near the fastest, and the first, under load
// (sustained_ms_by_set): there an algorithm that takes less power is given a higher clock. The first one
// stays unless another takes 0.5 % less.
GemmTiming search_gemm(const kernels::GemmShape& shape, int repeats);

double gemm_flops(const kernels::GemmShape& shape);

// src/ops/gemm_table.h with these choices.
std::string gemm_table_text(const std::vector<GemmTiming>& found, const std::string& gpu);

}  // namespace transxssm::bench
