#include "model/hybrid_model.h"

#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/nvtx.h"
#include "model/packed_spec.h"
#include "model/recompute.h"
#include "model/rope.h"
#include "ops/embedding.h"
#include "ops/gemm.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"

namespace transxssm {
namespace {

const std::string kEmbedding = "word_embed.weight";
const std::string kHead = "lm_head.weight";
const std::string kFinalNorm = "final_layernorm.weight";

// Where the backward pass starts: above the hidden states, with their gradient. Given to
// torch::autograd::backward as arguments both would live until it ends.
struct BackwardStart : torch::autograd::Function<BackwardStart> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& hidden,
                            const at::Tensor& dhidden) {
    ctx->save_for_backward({dhidden});
    return at::empty({0}, hidden.options());
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list&) {
    return {ctx->get_saved_variables()[0], at::Tensor()};
  }
};

struct Announcement : torch::CustomClassHolder {
  Announcement(const GradientsFinal& listener, size_t spec) : gradients_final(listener), first_spec(spec) {}
  const GradientsFinal& gradients_final;  // of a call that ends after its backward pass
  size_t first_spec;
};

// The identity. Its backward pass comes when that of everything behind it has been queued.
struct AnnouncePoint : torch::autograd::Function<AnnouncePoint> {
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                                                const std::optional<at::Tensor>& branch,
                                                const c10::intrusive_ptr<Announcement>& announcement) {
    ctx->saved_data["announcement"] = c10::IValue::make_capsule(announcement);
    if (!branch) return {x};
    return {x, *branch};
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& gradients) {
    const auto announcement =
        c10::static_intrusive_pointer_cast<Announcement>(ctx->saved_data["announcement"].toCapsule());
    announcement->gradients_final(announcement->first_spec);
    return {gradients[0], gradients.size() > 1 ? gradients[1] : at::Tensor(), at::Tensor()};
  }
};

ops::Residual announce_final(const ops::Residual& in, const GradientsFinal& gradients_final,
                             size_t first_spec) {
  const std::optional<at::Tensor> branch = in.branch.defined() ? std::optional(in.branch) : std::nullopt;
  const auto out = AnnouncePoint::apply(in.stream.x, branch,
                                        c10::make_intrusive<Announcement>(gradients_final, first_spec));
  return {{out[0], in.stream.r}, branch ? out[1] : at::Tensor()};
}

std::string layer_prefix(size_t layer) { return concat("layers.", layer, "."); }

}  // namespace

std::vector<ParameterSpec> HybridModel::parameter_specs(const ModelConfig& config, bool decay_embeddings) {
  const double std = config.init_std;
  const double output_std =
      config.scale_residual_init ? std / std::sqrt(2.0 * static_cast<double>(config.num_layers)) : std;
  const std::vector<int64_t> vocabulary_by_d{config.vocab_size, config.hidden_size};
  std::vector<ParameterSpec> specs{
      single_spec(kEmbedding, ParameterKind::matrix, vocabulary_by_d, decay_embeddings, normal_init(std))};
  const auto mixers = layer_mixers(config);
  for (size_t layer = 0; layer < mixers.size(); ++layer)
    for (auto& spec : block_specs(config, mixers[layer], {layer_prefix(layer), std, output_std}))
      specs.push_back(std::move(spec));
  specs.push_back(vector_spec(kFinalNorm, {config.hidden_size}, constant_init(1)));
  if (!config.tie_word_embeddings)
    specs.push_back(single_spec(kHead, ParameterKind::matrix, vocabulary_by_d, true, normal_init(std)));
  return specs;
}

std::vector<size_t> HybridModel::first_specs(const ModelConfig& config) {
  std::vector<size_t> first{1};  // the embedding comes first
  for (const MixerKind mixer : layer_mixers(config))
    first.push_back(first.back() + block_specs(config, mixer, {}).size());
  return first;
}

HybridModel::HybridModel(const ModelConfig& config, const ParameterTable& table, const ModelOptions& options)
    : config_(config),
      options_(options),
      embedding_(table.at(kEmbedding)),
      first_specs_(first_specs(config)) {
  const auto device = embedding_->weight.device();
  const auto mixers = layer_mixers(config);
  const int64_t head_dim = config.attention.head_dim;
  const int64_t state_dim = config.ssd.state_dim;
  attention_rope_ = make_rope_table(config.rope, head_dim, options.max_positions, device);
  ssd_rope_ = state_dim == head_dim ? attention_rope_
                                    : make_rope_table(config.rope, state_dim, options.max_positions, device);

  head_ = config.tie_word_embeddings ? embedding_ : table.at(kHead);
  final_norm_ = table.at(kFinalNorm);
  const auto normed =
      options.recompute == Recompute::selective ? ops::NormedInput::rebuilt : ops::NormedInput::kept;
  for (size_t layer = 0; layer < mixers.size(); ++layer) {
    const std::string prefix = layer_prefix(layer);
    auto mixer =
        mixers[layer] == MixerKind::ssd
            ? make_ssd_mixer(config, prefix, table, config.ssd.rope ? &ssd_rope_ : nullptr, options.ssd_path)
            : make_attention_mixer(config, prefix, table, config.attention.rope ? &attention_rope_ : nullptr,
                                   options.deterministic, options.attention_path);
    blocks_.emplace_back(config, prefix, table, std::move(mixer), normed);
  }
}

at::Tensor HybridModel::normed(const ops::Residual& last) const {
  return ops::residual_rms_norm(last, final_norm_, config_.norm_eps, /*r_out=*/{}).second;
}

at::Tensor HybridModel::hidden(const at::Tensor& tokens_bt, const ops::Documents& documents) const {
  return hidden(tokens_bt, documents, {});
}

at::Tensor HybridModel::hidden(const at::Tensor& tokens_bt, const ops::Documents& documents,
                               const GradientsFinal& gradients_final) const {
  expect(tokens_bt.size(1) <= options_.max_positions,
         concat("a sequence of ", tokens_bt.size(1), " tokens is longer than the rotary table (",
                options_.max_positions, " positions)"));
  need_weights(0);
  ops::Residual stream{{ops::embedding(tokens_bt, embedding_), {}}, {}};
  for (size_t i = 0; i < blocks_.size(); ++i) {
    need_weights(first_specs_[i]);
    if (gradients_final) stream = announce_final(stream, gradients_final, first_specs_[i]);
    stream = options_.recompute == Recompute::full ? forward_with_recompute(blocks_[i], stream, documents)
                                                   : blocks_[i].forward(stream, documents);
  }
  need_weights(first_specs_.back());
  if (gradients_final) stream = announce_final(stream, gradients_final, first_specs_.back());
  return normed(stream);
}

void HybridModel::need_weights(size_t first_spec) const {
  if (options_.weights_needed) options_.weights_needed(first_spec);
}

void HybridModel::skip_pass() const {
  need_weights(0);
  for (const size_t first_spec : first_specs_) need_weights(first_spec);
}

at::Tensor HybridModel::loss(const at::Tensor& tokens_bt, const at::Tensor& labels_bt,
                             const ops::Documents& documents) const {
  const at::NoGradGuard no_grad;
  const auto hidden_nd = hidden(tokens_bt, documents).flatten(0, 1);
  return ops::cross_entropy(hidden_nd, head_->weight, labels_bt.flatten()).loss;
}

ops::TokenScores HybridModel::token_scores(const at::Tensor& tokens_bt, const ops::Documents& documents,
                                           const at::Tensor& places_n, const at::Tensor& labels_n) const {
  const at::NoGradGuard no_grad;
  const ops::NoGemmSearch no_search;
  const auto hidden_nd = hidden(tokens_bt, documents).flatten(0, 1).index_select(0, places_n);
  return ops::token_scores(hidden_nd, head_->weight, labels_n);
}

ops::CrossEntropyResult HybridModel::add_gradients(const at::Tensor& tokens_bt, const at::Tensor& labels_bt,
                                                   const ops::Documents& documents, const at::Tensor& scale,
                                                   double z_loss,
                                                   const GradientsFinal& gradients_final) const {
  at::Tensor hidden_nd = [&] {
    const NvtxRange range("forward");
    return hidden(tokens_bt, documents, gradients_final).flatten(0, 1);
  }();
  const NvtxRange range("loss and backward");
  auto [result, dhidden] =
      ops::cross_entropy_with_gradient(hidden_nd.detach(), head_, labels_bt.flatten(), scale, z_loss);
  const auto start = BackwardStart::apply(hidden_nd, dhidden);
  hidden_nd.reset();
  dhidden.reset();
  torch::autograd::backward({start}, {start.detach()});  // operators add to the flat gradients
  return result;
}

at::Tensor HybridModel::logits(const at::Tensor& tokens_bt, const ops::Documents& documents) const {
  return at::matmul(hidden(tokens_bt, documents), head_->weight.t());
}

DecodeState HybridModel::start_decoding(int64_t batch, int64_t capacity) const {
  expect(capacity <= options_.max_positions,
         concat("decoding ", capacity, " tokens needs a rotary table of that length, it has ",
                options_.max_positions));
  DecodeState state;
  state.positions_b = at::zeros({batch}, at::TensorOptions(device()).dtype(at::kLong));
  for (const Block& block : blocks_) state.caches.push_back(block.mixer().make_cache(batch, capacity));
  return state;
}

at::Tensor HybridModel::prefill(const Prompts& prompts, DecodeState& state) const {
  const at::NoGradGuard no_grad;
  const ops::NoGemmSearch no_search;
  ops::Residual stream{{ops::embedding(prompts.tokens_bt, embedding_), {}}, {}};
  for (size_t i = 0; i < blocks_.size(); ++i)
    stream = blocks_[i].prefill(stream, prompts, *state.caches[i], /*last_only=*/i + 1 == blocks_.size());
  state.positions_b.copy_(prompts.lengths_b);
  return ops::linear(normed(stream), head_);
}

at::Tensor HybridModel::step(const at::Tensor& tokens_b, DecodeState& state) const {
  const at::NoGradGuard no_grad;
  ops::Residual stream{{ops::embedding(tokens_b, embedding_), {}}, {}};
  for (size_t i = 0; i < blocks_.size(); ++i)
    stream = blocks_[i].step(stream, state.positions_b, *state.caches[i]);
  state.positions_b.add_(1);
  return ops::linear(normed(stream), head_);
}

}  // namespace transxssm
