// Parameters and FLOPs of a configuration, counted from the same description that allocates them.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "config/model_config.h"

namespace transxssm {

struct ParameterCounts {
  int64_t total = 0;
  int64_t non_embedding = 0;  // total without the token embedding (and without an untied head)
  int64_t matmul = 0;         // elements that take part in a matrix product per token, the head included
};

ParameterCounts count_parameters(const ModelConfig& config);

// The same total by part, in the order of the forward pass: embedding, the mixers' matrices by kind, MLPs,
// vectors (norms, residual scales and the scan's own), an untied head.
std::vector<std::pair<std::string, int64_t>> count_by_part(const ModelConfig& config);

// Model FLOPs of one token, forward and backward: 6 per matrix element (head included), 12·H·P·`mean_keys`
// per attention layer (mean keys attended per token: half the length for one document), 12·N·H·P per SSD
// layer. Recompute and the in-chunk part of the scan are not counted.
double train_flops_per_token(const ModelConfig& config, double mean_keys);

}  // namespace transxssm
