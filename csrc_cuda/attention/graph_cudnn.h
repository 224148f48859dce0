// Attention as a graph of cuDNN's frontend: which tensors, where they lie, and the plan for one call.
#pragma once

#include <compare>
#include <unordered_map>

#include <cudnn_frontend.h>

#include "csrc_cuda/attention/params.h"

namespace transxssm::kernels {

// One call of cuDNN: documents of at most `longest` tokens, and some of the heads; or whole rows of that
// length.
struct AttentionCall {
  AttentionPass pass;
  bool rows;
  bool deterministic;         // of a backward pass
  int64_t capacity, longest;  // documents and their tokens
  int64_t total_tokens;
  int heads, kv_heads, width;
  int64_t packed_row, out_row, key_gradient_row, log_sum_exp_row;
  auto operator<=>(const AttentionCall&) const = default;
};

// Names of the graph's tensors, by which a call binds memory to them.
enum AttentionTensor : int64_t {
  kQuery = 1000,  // far from those that the frontend gives to tensors of its own, counting from 1
  kKey,
  kValue,
  kOut,
  kLogSumExp,
  kLengths,
  kPackedOffsets,
  kOutOffsets,
  kKeyGradientOffsets,
  kHeadOffsets,
  kDOut,
  kDQuery,
  kDKey,
  kDValue
};
using AttentionPointers = std::unordered_map<int64_t, void*>;

struct AttentionPlan {
  cudnn_frontend::graph::Graph graph;
  int64_t workspace_bytes = 0;
};

// Throws with cuDNN's own words. Fills `plan` in place: a graph can't be moved.
void build_attention_plan(const AttentionCall& call, cudnnHandle_t handle, AttentionPlan& plan);

// Throws with `what` where cuDNN did not do it.
void check_cudnn(const cudnn_frontend::error_t& error, const char* what);

}  // namespace transxssm::kernels
