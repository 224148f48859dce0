// The language model: embedding, blocks, final norm, head. One class for every layer pattern; TransXSSM,
// Transformer, Mamba-2 and the plain hybrid are configurations of it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "config/model_config.h"
#include "core/parameter.h"
#include "model/block.h"
#include "ops/attention.h"
#include "ops/cross_entropy.h"
#include "ops/documents.h"
#include "ops/rope.h"
#include "ops/ssd.h"

namespace transxssm {

// Decoding: what the blocks remember of each row, and how many tokens they have seen.
struct DecodeState {
  std::vector<std::unique_ptr<MixerCache>> caches;
  at::Tensor positions_b;  // i64 [B], on the device
};

// Told in a backward pass: gradients of parameters number `first_spec` of parameter_specs() and of those
// after it are final.
using GradientsFinal = std::function<void(size_t first_spec)>;

struct ModelOptions {
  int64_t max_positions = 0;  // longest document or generated text: length of the rotary table
  bool deterministic = true;
  Recompute recompute = Recompute::none;
  ops::SsdPath ssd_path = ops::SsdPath::automatic;
  ops::AttentionPath attention_path = ops::AttentionPath::automatic;
  // Told in every forward pass but those that decode: operators queued from here on read weights of
  // parameters from number `first_spec` of parameter_specs() on, up to the next call's.
  std::function<void(size_t first_spec)> weights_needed{};
};

class HybridModel {
 public:
  // All parameters of `config`, in the order of the forward pass. Embeddings decay only if
  // `decay_embeddings`.
  static std::vector<ParameterSpec> parameter_specs(const ModelConfig& config, bool decay_embeddings = false);

  // Numbers in parameter_specs() of the first parameter of each block, and of what follows the last one.
  static std::vector<size_t> first_specs(const ModelConfig& config);

  // Binds to parameters made from parameter_specs(config); they outlive the model.
  HybridModel(const ModelConfig& config, const ParameterTable& table, const ModelOptions& options);
  HybridModel(const HybridModel&) = delete;  // its mixers point at its rotary tables
  HybridModel& operator=(const HybridModel&) = delete;

  // RMSNorm(x) after the last block. tokens_bt i64 [B, T] → [B, T, D].
  at::Tensor hidden(const at::Tensor& tokens_bt, const ops::Documents& documents) const;

  // Σ −log p[label] over the counted labels (labels_bt i64 [B, T], −1 not counted), without gradients.
  at::Tensor loss(const at::Tensor& tokens_bt, const at::Tensor& labels_bt,
                  const ops::Documents& documents) const;

  // Forward and backward: adds the gradient of scale · Σ (−log p[label] + z_loss · log²Z) to that of every
  // parameter and returns both sums. `scale` is a scalar on the device, read there. `gradients_final`, where
  // given, is called after each block's backward pass, on the stream on which that was queued.
  ops::CrossEntropyResult add_gradients(const at::Tensor& tokens_bt, const at::Tensor& labels_bt,
                                        const ops::Documents& documents, const at::Tensor& scale,
                                        double z_loss = 0.0,
                                        const GradientsFinal& gradients_final = {}) const;

  // What it says of tokens `labels_n` at `places_n`, i64 [N], in the flattened tokens_bt. Without gradients.
  ops::TokenScores token_scores(const at::Tensor& tokens_bt, const ops::Documents& documents,
                                const at::Tensor& places_n, const at::Tensor& labels_n) const;

  // For a rank without a batch where others have one: what they wait for of its forward pass
  // (ModelOptions::weights_needed).
  void skip_pass() const;

  // [B, T, V] for tests and scoring of short texts.
  at::Tensor logits(const at::Tensor& tokens_bt, const ops::Documents& documents) const;

  // Decoding without gradients: room for rows of at most `capacity` tokens.
  DecodeState start_decoding(int64_t batch, int64_t capacity) const;
  // Rows begin anew with these prompts. Logits of each one's last token, [B, V].
  at::Tensor prefill(const Prompts& prompts, DecodeState& state) const;
  // tokens_b i64 [B] are the next of each row. Logits, [B, V]. The same work every time, all that changes
  // lies on the device: it can be captured in a CUDA graph.
  at::Tensor step(const at::Tensor& tokens_b, DecodeState& state) const;

  int64_t max_positions() const { return options_.max_positions; }
  at::Device device() const { return embedding_->weight.device(); }

 private:
  at::Tensor hidden(const at::Tensor& tokens_bt, const ops::Documents& documents,
                    const GradientsFinal& gradients_final) const;
  at::Tensor normed(const ops::Residual& last) const;  // what the head reads
  void need_weights(size_t first_spec) const;

  ModelConfig config_;
  ModelOptions options_;
  ops::RopeTable attention_rope_, ssd_rope_;  // one set of frequencies; two tables only if the widths differ
  ParameterPtr embedding_, head_, final_norm_;
  std::vector<Block> blocks_;
  std::vector<size_t> first_specs_;
};

}  // namespace transxssm
