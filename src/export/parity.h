// Proof that an exported folder computes what the checkpoint computes: fixed prompts, logits of both, what
// differs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include <nlohmann/json.hpp>

#include <ATen/core/Tensor.h>

#include "data/tokenizer.h"
#include "model/hybrid_model.h"

namespace transxssm {

struct ParityOptions {
  int64_t greedy_prompts = 4;
  int64_t greedy_tokens = 16;
};

// Row 0 of `tokens` is one document, longer than a chunk of the scan; row 1 holds several, of awkward
// lengths.
struct ParityInput {
  at::Tensor tokens_bt;   // i64 [2, T]
  at::Tensor offsets;     // i32, ops::Documents
  at::Tensor prompts_bt;  // i64 [greedy_prompts, ...]
  int64_t greedy_tokens = 0;
  int64_t positions_needed() const;  // of the rotary table
};

// Text of `tokenizer` if there is one, else pseudo-random ids below `vocab_size`. `bos_id` starts documents,
// unless negative.
ParityInput parity_input(const ModelConfig& config, const Tokenizer* tokenizer, int64_t bos_id,
                         const ParityOptions& options);

struct LogitsDifference {
  double max_abs = 0;
  double mean_abs = 0;
  double kl = 0;                // mean over tokens, in nats
  double greedy_agreement = 0;  // share of tokens with the same most likely next token
};

at::Tensor parity_logits(const HybridModel& model, const ParityInput& input);  // f32 [2 T, V]
LogitsDifference compare_logits(const at::Tensor& reference_nv, const at::Tensor& other_nv);
nlohmann::json to_json(const LogitsDifference& difference);

// Largest |difference| that is rounding: A is stored, not its logarithm. Another weight, sign or order is far
// beyond.
double parity_limit(const at::Tensor& reference_nv);

// Throws std::runtime_error where a difference is larger than `limit`, or no number.
void expect_same(const LogitsDifference& difference, double limit);

// parity.safetensors: input, logits of some positions, and greedy continuations, for scripts/check_export.py.
void write_parity_tensors(const std::filesystem::path& folder, const HybridModel& model,
                          const ParityInput& input, const at::Tensor& logits_nv);

}  // namespace transxssm
