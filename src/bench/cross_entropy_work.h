// The loss's kernel on a chunk of logits, as work to be timed.
#pragma once

#include <vector>

#include "bench/stream_work.h"

namespace transxssm::bench {

// Random bf16 logits [rows, vocabulary], all labels counted. "forward": losses alone; "both": the gradient in
// their place too, so that later runs find small numbers there, which take as long.
std::vector<StreamCase> cross_entropy_cases(int64_t rows, int64_t vocabulary);

}  // namespace transxssm::bench
