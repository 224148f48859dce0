#include "model/block.h"

#include "core/nvtx.h"
#include "model/packed_spec.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"
#include "ops/swiglu.h"

namespace transxssm {

Block::Block(const ModelConfig& config, const std::string& prefix, const ParameterTable& table,
             std::unique_ptr<Mixer> mixer, ParameterPtr next_norm)
    : eps_(config.norm_eps), mixer_(std::move(mixer)), next_norm_(std::move(next_norm)) {
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

Stream Block::forward(const Stream& in, const ops::Documents& documents) const {
  const auto mixed_btd = [&] {
    const NvtxRange range("mixer");
    return mixer_->forward(in.u_btd, documents);
  }();
  const NvtxRange range("rest of the block");
  return finish(in.x_btd, mixed_btd);
}

Stream Block::forward_cached(const Stream& in, MixerCache& cache, int64_t position) const {
  return finish(in.x_btd, mixer_->forward_cached(in.u_btd, cache, position));
}

Stream Block::finish(const at::Tensor& x_btd, const at::Tensor& mixed_btd) const {
  if (!mlp_norm_) {
    auto [x, u] = ops::residual_rms_norm(x_btd, mixed_btd, mixer_residual_, next_norm_, eps_);
    return {x, u};
  }
  const auto [x, u] = ops::residual_rms_norm(x_btd, mixed_btd, mixer_residual_, mlp_norm_, eps_);
  const auto mlp = ops::swiglu_linear(ops::linear(u, gate_up_proj_), down_proj_);
  auto [x_out, u_out] = ops::residual_rms_norm(x, mlp, mlp_residual_, next_norm_, eps_);
  return {x_out, u_out};
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
