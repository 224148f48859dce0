// What training keeps in memory beside parameters: the one table of what each operator saves for the backward
// pass, and what it needs on top of that at the worst moment.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/model_config.h"

namespace transxssm {

// Which operators run as CUDA kernels of the program or of cuDNN, each with tensors of its own; else
// LibTorch's.
struct OperatorKernels {
  bool ssd = true, attention = true, cross_entropy = true;
};

struct ActivationShape {
  int64_t batch = 0, seq_len = 0;  // of a micro-batch
  int64_t element = 2;             // bytes of a stored activation: 2 for bf16, 4 for f32
  OperatorKernels kernels{};
  int64_t documents = 0;  // capacity of a micro-batch; 0: one a row
  bool deterministic = true;
};

// A tensor that an operator of one block saves; those that several save are listed once.
struct KeptTensor {
  std::string name;   // "packed C, B, X, tau [N, 3080]"
  std::string saved;  // by which operators, "ssd"
  int64_t bytes = 0;
};

std::vector<KeptTensor> kept_by_block(const ModelConfig& config, MixerKind mixer,
                                      const ActivationShape& shape, Recompute recompute);

struct ActivationMemory {
  int64_t attention_layers = 0, ssd_layers = 0;  // kept by all layers of a kind
  int64_t last_norm = 0;                         // residual stream before the head
  int64_t loss = 0;                              // last hidden state and its gradient, one chunk of logits
  int64_t backward = 0;                          // gradients that pass through one block, and its workspaces

  // Loss and backward pass follow each other.
  int64_t peak() const {
    return attention_layers + ssd_layers + last_norm + (loss > backward ? loss : backward);
  }
};

// What a forward pass that keeps nothing needs at its worst moment: in a block, or for the loss.
int64_t forward_memory(const ModelConfig& config, const ActivationShape& shape);

ActivationMemory activation_memory(const ModelConfig& config, const ActivationShape& shape,
                                   Recompute recompute);

}  // namespace transxssm
