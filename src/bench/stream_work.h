// Operators that do little but move memory (norms, activations, embedding, optimizer), as work to be timed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/device_timer.h"

namespace transxssm::bench {

struct StreamCase {
  std::string pass;  // forward (without gradients), both (and backward, through autograd), or step
  double bytes = 0;  // what has to cross the memory bus: each tensor read or written once
  Workload work;
};

// Names that stream_cases() takes.
std::vector<std::string> stream_ops();

// Random bf16 activations [tokens, width]; adamw and grad_norm: tokens · width parameters.
std::vector<StreamCase> stream_cases(const std::string& op, int64_t tokens, int64_t width);

}  // namespace transxssm::bench
