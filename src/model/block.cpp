#include "model/block.h"

#include "core/nvtx.h"
#include "model/packed_spec.h"
#include "ops/swiglu.h"

namespace transxssm {

Block::Block(const ModelConfig& config, const std::string& prefix, const ParameterTable& table,
             std::unique_ptr<Mixer> mixer, ops::NormedInput normed)
    : eps_(config.norm_eps),
      normed_(normed),
      mixer_(std::move(mixer)),
      mixer_norm_(table.at(prefix + "pre_sequence_layernorm.weight")) {
  const bool has_mlp = config.intermediate_size > 0;
  if (config.residual == ResidualKind::learned) {
    mixer_residual_ = table.at(prefix + "post_sequence_residual.weight");
    if (has_mlp) mlp_residual_ = table.at(prefix + "post_state_residual.weight");
  }
  if (has_mlp) {
    mlp_norm_ = table.at(prefix + "pre_state_layernorm.weight");
    gate_up_proj_ = table.at(prefix + "feed_forward.gate_up_proj.weight");
    down_proj_ = table.at(prefix + "feed_forward.down_proj.weight");
  }
}

ops::Residual Block::forward(const ops::Residual& in, const ops::Documents& documents) const {
  return finish(
      mixed(in, [&](const at::Tensor& packed_btw) { return mixer_->forward(packed_btw, documents); }));
}

ops::Residual Block::prefill(const ops::Residual& in, const Prompts& prompts, MixerCache& cache,
                             bool last_only) const {
  auto out = mixed(in, [&](const at::Tensor& packed_btw) {
    return mixer_->prefill(packed_btw, prompts, cache, last_only);
  });
  if (last_only) out.stream.x = last_tokens(prompts, out.stream.x);
  return finish(out);
}

ops::Residual Block::step(const ops::Residual& in, const at::Tensor& positions_b, MixerCache& cache) const {
  return finish(
      mixed(in, [&](const at::Tensor& packed_bw) { return mixer_->step(packed_bw, positions_b, cache); }));
}

template <class Mix>
ops::Residual Block::mixed(const ops::Residual& in, Mix&& mix) const {
  const NvtxRange range("mixer");
  const auto [stream, packed] =
      ops::residual_norm_linear(in, mixer_norm_, eps_, mixer_residual_, mixer_->projection(), normed_);
  return {stream, mix(packed)};
}

ops::Residual Block::finish(const ops::Residual& in) const {
  if (!mlp_norm_) return in;
  const NvtxRange range("MLP");
  const auto [stream, gate_up] =
      ops::residual_norm_linear(in, mlp_norm_, eps_, mlp_residual_, gate_up_proj_, normed_);
  return {stream, ops::swiglu_linear(gate_up, down_proj_)};
}

std::vector<ParameterSpec> block_specs(const ModelConfig& config, MixerKind mixer, const LayerInit& layer) {
  const int64_t d = config.hidden_size;
  const Init one = constant_init(1);
  const bool learned = config.residual == ResidualKind::learned;
  std::vector<ParameterSpec> specs{vector_spec(layer.prefix + "pre_sequence_layernorm.weight", {d}, one)};
  for (auto& spec :
       mixer == MixerKind::ssd ? ssd_mixer_specs(config, layer) : attention_mixer_specs(config, layer))
    specs.push_back(std::move(spec));
  if (learned) specs.push_back(vector_spec(layer.prefix + "post_sequence_residual.weight", {d}, one));
  if (config.intermediate_size == 0) return specs;

  specs.push_back(vector_spec(layer.prefix + "pre_state_layernorm.weight", {d}, one));
  specs.push_back(PackedSpec(layer.prefix + "feed_forward.gate_up_proj.weight", d)
                      .rows(layer.prefix + "feed_forward.gate_proj.weight", config.intermediate_size,
                            normal_init(layer.std))
                      .rows(layer.prefix + "feed_forward.up_proj.weight", config.intermediate_size,
                            normal_init(layer.std))
                      .done());
  specs.push_back(single_spec(layer.prefix + "feed_forward.down_proj.weight", ParameterKind::matrix,
                              {d, config.intermediate_size}, true, normal_init(layer.output_std)));
  if (learned) specs.push_back(vector_spec(layer.prefix + "post_state_residual.weight", {d}, one));
  return specs;
}

}  // namespace transxssm
