// Attention mixer: packed Q, K, V projection, optional RMSNorm on Q and K, attention with RoPE, output
// projection.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include "model/mixer.h"
#include "model/packed_spec.h"
#include "ops/attention.h"
#include "ops/attention_cached.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"

namespace transxssm {
namespace {

struct KeyValueCache : MixerCache {
  ops::AttentionCache heads;
};

class AttentionMixer : public Mixer {
 public:
  AttentionMixer(const ModelConfig& config, const std::string& prefix, const ParameterTable& table,
                 const ops::RopeTable* rope, bool deterministic, ops::AttentionPath path)
      : dims_(attention_dims(config.attention, path)),
        eps_(config.norm_eps),
        rope_(rope),
        deterministic_(deterministic),
        qkv_proj_(table.at(prefix + "attn.qkv_proj.weight")),
        o_proj_(table.at(prefix + "attn.o_proj.weight")) {
    if (config.attention.qk_norm) {
      q_norm_ = table.at(prefix + "attn.q_norm.weight");
      k_norm_ = table.at(prefix + "attn.k_norm.weight");
    }
  }

  const ParameterPtr& projection() const override { return qkv_proj_; }

  at::Tensor forward(const at::Tensor& packed_btw, const ops::Documents& documents) const override {
    const auto out = ops::attention(dims_, norm_qk(packed_btw), rope_, documents, deterministic_);
    return ops::linear(out, o_proj_);
  }

  at::Tensor prefill(const at::Tensor& packed_btw, const Prompts& prompts, MixerCache& cache,
                     bool last_only) const override {
    auto& heads = static_cast<KeyValueCache&>(cache).heads;
    const at::Tensor normed = norm_qk(packed_btw);
    if (!last_only)
      return ops::linear(ops::attention_prefill(dims_, normed, rope_, prompts.documents, heads), o_proj_);
    ops::fill_attention_cache(dims_, normed, rope_, prompts.documents, heads);
    const auto out =
        ops::attention_step(dims_, last_tokens(prompts, normed), rope_, heads, prompts.lengths_b - 1);
    return ops::linear(out, o_proj_);
  }

  at::Tensor step(const at::Tensor& packed_bw, const at::Tensor& positions_b,
                  MixerCache& cache) const override {
    auto& heads = static_cast<KeyValueCache&>(cache).heads;
    return ops::linear(ops::attention_step(dims_, norm_qk(packed_bw), rope_, heads, positions_b), o_proj_);
  }

  std::unique_ptr<MixerCache> make_cache(int64_t batch, int64_t capacity) const override {
    auto cache = std::make_unique<KeyValueCache>();
    const std::vector<int64_t> shape{batch, dims_.num_kv_heads, capacity, dims_.head_dim};
    const auto options = qkv_proj_->weight.options().requires_grad(false);
    cache->heads = {at::zeros(shape, options), at::zeros(shape, options)};
    return cache;
  }

 private:
  // RMSNorm over the width of every head of Q and of K, when configured.
  at::Tensor norm_qk(const at::Tensor& packed) const {
    if (!q_norm_) return packed;
    const int64_t q_width = dims_.num_heads * dims_.head_dim;
    const int64_t k_width = dims_.num_kv_heads * dims_.head_dim;
    const auto norm = [&](int64_t begin, int64_t width, const ParameterPtr& w) {
      const auto heads =
          packed.narrow(-1, begin, width).unflatten(-1, {width / dims_.head_dim, dims_.head_dim});
      return ops::rms_norm(heads, w, eps_).flatten(-2);
    };
    const auto v = packed.narrow(-1, q_width + k_width, k_width);
    return at::cat({norm(0, q_width, q_norm_), norm(q_width, k_width, k_norm_), v}, -1);
  }

  ops::AttentionDims dims_;
  double eps_;
  const ops::RopeTable* rope_;
  bool deterministic_;
  ParameterPtr qkv_proj_, o_proj_, q_norm_, k_norm_;
};

}  // namespace

ops::AttentionDims attention_dims(const AttentionConfig& config, ops::AttentionPath path) {
  return {config.num_heads, config.num_kv_heads, config.head_dim, path};
}

std::vector<ParameterSpec> attention_mixer_specs(const ModelConfig& config, const LayerInit& layer) {
  const AttentionConfig& c = config.attention;
  const std::string prefix = layer.prefix + "attn.";
  const int64_t q_width = c.num_heads * c.head_dim;
  const int64_t kv_width = c.num_kv_heads * c.head_dim;
  const Init normal = normal_init(layer.std);
  std::vector<ParameterSpec> specs;
  specs.push_back(PackedSpec(prefix + "qkv_proj.weight", config.hidden_size)
                      .rows(prefix + "q_proj.weight", q_width, normal)
                      .rows(prefix + "k_proj.weight", kv_width, normal)
                      .rows(prefix + "v_proj.weight", kv_width, normal)
                      .pad()
                      .done());
  specs.push_back(single_spec(prefix + "o_proj.weight", ParameterKind::matrix, {config.hidden_size, q_width},
                              true, normal_init(layer.output_std)));
  if (c.qk_norm) {
    specs.push_back(vector_spec(prefix + "q_norm.weight", {c.head_dim}, constant_init(1)));
    specs.push_back(vector_spec(prefix + "k_norm.weight", {c.head_dim}, constant_init(1)));
  }
  return specs;
}

std::unique_ptr<Mixer> make_attention_mixer(const ModelConfig& config, const std::string& prefix,
                                            const ParameterTable& table, const ops::RopeTable* rope,
                                            bool deterministic, ops::AttentionPath path) {
  return std::make_unique<AttentionMixer>(config, prefix, table, rope, deterministic, path);
}

}  // namespace transxssm
