// Small models of every architecture, with the parameters that hold them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "model/hybrid_model.h"
#include "optim/flat_parameters.h"
#include "optim/init.h"

namespace transxssm::test {

inline ModelConfig tiny_base() {
  ModelConfig c;
  c.vocab_size = 61;
  c.hidden_size = 32;
  c.num_layers = 4;
  c.intermediate_size = 48;
  c.init_std = 0.2;  // large enough that every path matters in the logits
  c.attention.num_heads = c.attention.num_kv_heads = 2;
  c.attention.head_dim = 16;
  c.ssd.num_heads = c.ssd.num_groups = 2;
  c.ssd.head_dim = c.ssd.state_dim = 16;
  c.ssd.chunk_size = 16;
  c.layers.attention_period = 2;
  c.layers.attention_offset = 1;
  return c;
}

// transxssm, transformer, mamba2, hybrid-plain, and one with every optional part switched on.
inline ModelConfig tiny_config(const std::string& architecture) {
  ModelConfig c = tiny_base();
  const auto as_mamba2 = [&] {
    c.residual = ResidualKind::plain;
    c.ssd.num_groups = 1;
    c.ssd.conv_width = 4;
    c.ssd.gate = c.ssd.d_skip = true;
    c.ssd.rope = false;
  };
  if (architecture == "transformer") {
    c.layers.attention_period = 1;
    c.layers.attention_offset = 0;
  } else if (architecture == "mamba2") {
    as_mamba2();
    c.intermediate_size = 0;
    c.layers.pattern = "S";
  } else if (architecture == "hybrid-plain") {
    as_mamba2();
  } else if (architecture == "everything") {
    as_mamba2();
    c.residual = ResidualKind::learned;
    c.ssd.rope = true;
    c.ssd.bc_norm = true;
    c.ssd.state_dim = 8;
    c.attention.qk_norm = true;
    c.attention.num_kv_heads = 1;
    c.tie_word_embeddings = false;
    c.rope.scaling = RopeScaling::yarn;
    c.rope.factor = 4;
    c.rope.original_max_position = 32;
  }
  return c;
}

inline const std::vector<std::string>& architectures() {
  static const std::vector<std::string> names{"transxssm", "transformer", "mamba2", "hybrid-plain",
                                              "everything"};
  return names;
}

// A model and what it is bound to, on the CPU in f32.
struct TinyModel {
  explicit TinyModel(const ModelConfig& config, const ModelOptions& options = {256}, uint64_t seed = 7)
      : parameters(HybridModel::parameter_specs(config), at::kCPU, at::kFloat, ParameterUse::training),
        model(config, parameters.table(), options) {
    initialize(parameters, seed);
  }
  FlatParameters parameters;
  HybridModel model;
};

inline at::Tensor random_tokens(int64_t batch, int64_t tokens, uint64_t seed, int64_t vocabulary = 61) {
  auto generator = at::detail::createCPUGenerator(seed);
  return at::randint(vocabulary, {batch, tokens}, generator, at::kLong);
}

}  // namespace transxssm::test
