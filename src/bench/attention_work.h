// Attention, ours and LibTorch's, as work to be timed: causal, random bf16 inputs.
#pragma once

#include <cstdint>
#include <string>

#include "bench/device_timer.h"
#include "bench/pass.h"

namespace transxssm::bench {

struct AttentionShape {
  int64_t batch = 0, tokens = 0, heads = 0, kv_heads = 0, width = 0;
  bool documents = false;  // rows of several documents, of log-normal length; else one a row
};

// ops::attention as a layer calls it: rotation inside, the packed projection given away.
Workload attention_work(const AttentionShape& shape, Pass pass, bool deterministic);

// LibTorch's cuDNN attention on strided views of packed Q, K, V: one document a row, no rotation, the order
// of sums in backward left open.
Workload cudnn_attention_work(const AttentionShape& shape, Pass pass);

int64_t document_count(const AttentionShape& shape);

// What ops::attention takes for these inputs, and why.
std::string attention_path(bool deterministic);

// Multiplications and additions of the pairs of query and key that are seen: two products forward, five more
// backward.
double attention_flops(const AttentionShape& shape, Pass pass);

// What has to cross the memory bus at least: forward reads Q, K, V and writes the output; backward reads
// them, the output and its gradient, and writes three gradients.
double attention_bytes(const AttentionShape& shape, Pass pass);

}  // namespace transxssm::bench
