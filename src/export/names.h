// Which tensor of an exported folder holds which of ours: one table, walked by export, import and their
// tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "config/model_config.h"

namespace transxssm {

// The class of transformers that computes what a model computes.
enum class ExportFamily {
  transxssm,  // our own modelling files, with the names of the published TransXSSM classes
  llama,      // LlamaForCausalLM
  mamba2,     // Mamba2ForCausalLM
};

// Llama and Mamba2 where their classes compute exactly this model, so that serving engines take it as it is.
ExportFamily export_family(const ModelConfig& config);

// Rows [begin, begin + count) of one of our logical tensors (core/parameter.h).
struct LogicalRows {
  std::string name;
  int64_t begin = 0;
  int64_t count = 0;
};

struct ExportedTensor {
  enum class Values {
    same,
    negative_exp,  // A of A_log
    zero,          // a bias that this model doesn't have, but the class
  };
  std::string name;
  std::vector<int64_t> shape;
  std::vector<LogicalRows> rows;  // one below the other
  Values values = Values::same;
  bool full_precision =
      false;  // fp32 whatever the dtype of the export: vectors, in 16 bits too coarse near 1
};

// All tensors of an export of `config`, in the order of the forward pass. Every row of every logical tensor
// occurs once.
std::vector<ExportedTensor> exported_tensors(const ModelConfig& config);

// The values of one exported tensor in f32, from its rows one below the other; and back. `from_exported`
// gives for A the A_log that is exported as this A again, if there is one. Throws InputError where no model
// of ours has these values (A that isn't negative, a bias that isn't zero).
at::Tensor to_exported(const ExportedTensor& tensor, const at::Tensor& rows);
at::Tensor from_exported(const ExportedTensor& tensor, const at::Tensor& values);

}  // namespace transxssm
