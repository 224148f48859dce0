// Prefill and decode as `transxssm generate` runs them, on random tokens, timed.
#pragma once

#include <cstdint>
#include <optional>

#include "bench/queued_times.h"
#include "bench/step_parts.h"
#include "trainer/inference.h"

namespace transxssm::bench {

// A model of this configuration with its initial values: the speed of one that has learnt.
InferenceModel untrained_model(const RunConfig& config, Device device);

struct InferenceShape {
  int64_t batch = 1;
  int64_t context = 0;  // tokens of each prompt
  int repeats = 30;
};

struct InferenceTiming {
  Spread time;       // of a prefill of all prompts, or of one token of every row
  double flops = 0;  // of a prefill: model FLOPs, the head for last tokens alone
  double bytes = 0;  // that a decoded token of every row cannot do without: weights, keys and values, states
  uint64_t memory_peak = 0;
  std::optional<StepTime> by_part;  // on a GPU
};

// Logits of each prompt's last token.
InferenceTiming time_prefill(InferenceModel& model, const InferenceShape& shape);

// Greedy tokens behind prompts of that length; on a GPU as a CUDA graph.
InferenceTiming time_decode(InferenceModel& model, const InferenceShape& shape);

}  // namespace transxssm::bench
