#include "export/names.h"

#include <cmath>
#include <limits>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "core/check.h"

namespace transxssm {
namespace {

using Values = ExportedTensor::Values;
using Shape = std::vector<int64_t>;

// Collects tensors; `to` and `from` are the prefixes of the layer being listed.
class Listing {
 public:
  void enter(std::string to, std::string from) {
    to_ = std::move(to);
    from_ = std::move(from);
  }
  void matrix(const std::string& to, const std::string& from, int64_t rows, int64_t columns) {
    list_.push_back({to_ + to, {rows, columns}, {{from_ + from, 0, rows}}});
  }
  void vector(const std::string& to, const std::string& from, Shape shape, Values values = Values::same) {
    const int64_t rows = shape[0];
    list_.push_back({to_ + to, std::move(shape), {{from_ + from, 0, rows}}, values, true});
  }
  // A projection: weight and, for a class with biases that our models have not, zeros.
  void linear(const std::string& to, const std::string& from, int64_t rows, int64_t columns, bool bias) {
    matrix(to + ".weight", from + ".weight", rows, columns);
    if (bias) zeros(to + ".bias", rows);
  }
  void zeros(const std::string& to, int64_t rows) {
    list_.push_back({to_ + to, {rows}, {}, Values::zero, true});
  }
  void parts(const std::string& to, Shape shape, std::vector<LogicalRows> rows, bool full_precision) {
    for (auto& part : rows) part.name = from_ + part.name;
    list_.push_back({to_ + to, std::move(shape), std::move(rows), Values::same, full_precision});
  }
  std::vector<ExportedTensor> done() { return std::move(list_); }

 private:
  std::string to_, from_;
  std::vector<ExportedTensor> list_;
};

struct SsdWidths {
  explicit SsdWidths(const SsdConfig& c) : inner(c.num_heads * c.head_dim), bc(c.num_groups * c.state_dim) {}
  int64_t inner, bc;
};

void list_attention(const ModelConfig& config, const std::string& to, Listing& list, bool biases) {
  const AttentionConfig& c = config.attention;
  const int64_t d = config.hidden_size, q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim;
  list.linear(to + "q_proj", "attn.q_proj", q, d, biases);
  list.linear(to + "k_proj", "attn.k_proj", kv, d, biases);
  list.linear(to + "v_proj", "attn.v_proj", kv, d, biases);
  if (c.qk_norm)
    for (const std::string name : {"q_norm.weight", "k_norm.weight"})
      list.vector(to + name, "attn." + name, {c.head_dim});
  list.linear(to + "o_proj", "attn.o_proj", d, q, biases);
}

void list_mlp(const ModelConfig& config, const std::string& to, Listing& list, bool biases) {
  const int64_t d = config.hidden_size, f = config.intermediate_size;
  list.linear(to + "gate_proj", "feed_forward.gate_proj", f, d, biases);
  list.linear(to + "up_proj", "feed_forward.up_proj", f, d, biases);
  list.linear(to + "down_proj", "feed_forward.down_proj", d, f, biases);
}

// The dt bias travels as that of dt_proj; a class with one has them everywhere.
void list_ssd(const ModelConfig& config, Listing& list) {
  const SsdConfig& c = config.ssd;
  const SsdWidths w(c);
  const int64_t d = config.hidden_size;
  const auto project = [&](const std::string& name, int64_t rows, int64_t columns, bool zero_bias = true) {
    list.linear("ssd." + name, "ssd." + name, rows, columns, zero_bias);
  };
  project("c_proj", w.bc, d);
  project("b_proj", w.bc, d);
  project("x_proj", w.inner, d);
  project("dt_proj", c.num_heads, d, false);
  list.vector("ssd.dt_proj.bias", "ssd.dt_bias", {c.num_heads});
  list.vector("ssd.A", "ssd.A_log", {c.num_heads}, Values::negative_exp);
  if (c.conv_width > 0) {
    list.vector("ssd.conv1d.weight", "ssd.conv1d.weight", {2 * w.bc + w.inner, c.conv_width});
    list.vector("ssd.conv1d.bias", "ssd.conv1d.bias", {2 * w.bc + w.inner});
  }
  if (c.bc_norm)
    for (const std::string name : {"ssd.c_norm.weight", "ssd.b_norm.weight"})
      list.vector(name, name, {c.state_dim});
  if (c.d_skip) list.vector("ssd.D", "ssd.D", {c.num_heads});
  if (c.gate) {
    project("z_proj", w.inner, d);
    list.vector("ssd.norm.weight", "ssd.norm.weight", {w.inner});
  }
  project("out_proj", d, w.inner);
}

void list_own_layer(const ModelConfig& config, MixerKind mixer, Listing& list, bool biases) {
  const Shape d{config.hidden_size};
  const bool learned = config.residual == ResidualKind::learned;
  const auto same = [&](const std::string& name) { list.vector(name, name, d); };
  same("pre_sequence_layernorm.weight");
  if (mixer == MixerKind::ssd)
    list_ssd(config, list);
  else
    list_attention(config, "attn.", list, biases);
  if (learned) same("post_sequence_residual.weight");
  if (config.intermediate_size == 0) return;
  same("pre_state_layernorm.weight");
  list_mlp(config, "feed_forward.", list, biases);
  if (learned) same("post_state_residual.weight");
}

void list_llama_layer(const ModelConfig& config, Listing& list) {
  list.vector("input_layernorm.weight", "pre_sequence_layernorm.weight", {config.hidden_size});
  list_attention(config, "self_attn.", list, false);
  list.vector("post_attention_layernorm.weight", "pre_state_layernorm.weight", {config.hidden_size});
  list_mlp(config, "mlp.", list, false);
}

// Mamba-2 packs its projection as [z, x, B, C, dt] and convolves [x, B, C]; our convolution has [C, B, X].
void list_mamba2_layer(const ModelConfig& config, Listing& list) {
  const SsdConfig& c = config.ssd;
  const SsdWidths w(c);
  const int64_t d = config.hidden_size, channels = 2 * w.bc + w.inner;
  const auto x_b_c = [&](const std::string& name) {
    return std::vector<LogicalRows>{{name, 2 * w.bc, w.inner}, {name, w.bc, w.bc}, {name, 0, w.bc}};
  };
  list.vector("norm.weight", "pre_sequence_layernorm.weight", {d});
  list.parts("mixer.in_proj.weight", {w.inner + channels + c.num_heads, d},
             {{"ssd.z_proj.weight", 0, w.inner},
              {"ssd.x_proj.weight", 0, w.inner},
              {"ssd.b_proj.weight", 0, w.bc},
              {"ssd.c_proj.weight", 0, w.bc},
              {"ssd.dt_proj.weight", 0, c.num_heads}},
             false);
  list.parts("mixer.conv1d.weight", {channels, 1, c.conv_width}, x_b_c("ssd.conv1d.weight"), true);
  list.parts("mixer.conv1d.bias", {channels}, x_b_c("ssd.conv1d.bias"), true);
  for (const std::string name : {"dt_bias", "A_log", "D"})
    list.vector("mixer." + name, "ssd." + name, {c.num_heads});
  list.vector("mixer.norm.weight", "ssd.norm.weight", {w.inner});
  list.matrix("mixer.out_proj.weight", "ssd.out_proj.weight", d, w.inner);
}

struct FamilyNames {
  const char* embedding;
  const char* layers;
  const char* final_norm;
};

FamilyNames family_names(ExportFamily family) {
  switch (family) {
    case ExportFamily::llama:
      return {"model.embed_tokens.weight", "model.layers.", "model.norm.weight"};
    case ExportFamily::mamba2:
      return {"backbone.embeddings.weight", "backbone.layers.", "backbone.norm_f.weight"};
    case ExportFamily::transxssm:
      break;
  }
  return {"model.word_embed.weight", "model.layers.", "model.final_layernorm.weight"};
}

// The A_log whose exp is `a` in f32, searched among the neighbours of log(a), since neither function is
// exact.
float log_of(float a) {
  const auto exported = [](float candidate) {
    return static_cast<float>(std::exp(static_cast<double>(candidate)));
  };
  const auto middle = static_cast<float>(std::log(static_cast<double>(a)));
  float below = middle, above = middle;
  for (int step = 0; step < 8; ++step) {
    if (exported(below) == a) return below;
    if (exported(above) == a) return above;
    below = std::nextafter(below, -std::numeric_limits<float>::infinity());
    above = std::nextafter(above, std::numeric_limits<float>::infinity());
  }
  return middle;
}

}  // namespace

ExportFamily export_family(const ModelConfig& config) {
  const SsdConfig& s = config.ssd;
  const bool plain = config.residual == ResidualKind::plain;
  const bool has_mlp = config.intermediate_size > 0;
  if (plain && has_mlp && !has_mixer(config, MixerKind::ssd) && config.attention.rope &&
      !config.attention.qk_norm)
    return ExportFamily::llama;
  // Mamba-2's class norms by group, ours over the whole width: one and the same with one group.
  if (plain && !has_mlp && !has_mixer(config, MixerKind::attention) && s.num_groups == 1 && !s.rope &&
      s.conv_width > 0 && s.gate && s.d_skip && !s.bc_norm &&
      (s.num_heads * s.head_dim) % config.hidden_size == 0)
    return ExportFamily::mamba2;
  return ExportFamily::transxssm;
}

std::vector<ExportedTensor> exported_tensors(const ModelConfig& config) {
  const ExportFamily family = export_family(config);
  const FamilyNames names = family_names(family);
  const auto mixers = layer_mixers(config);
  const bool biases = has_mixer(config, MixerKind::ssd);
  Listing list;
  list.matrix(names.embedding, "word_embed.weight", config.vocab_size, config.hidden_size);
  for (size_t layer = 0; layer < mixers.size(); ++layer) {
    list.enter(concat(names.layers, layer, "."), concat("layers.", layer, "."));
    if (family == ExportFamily::llama)
      list_llama_layer(config, list);
    else if (family == ExportFamily::mamba2)
      list_mamba2_layer(config, list);
    else
      list_own_layer(config, mixers[layer], list, biases);
  }
  list.enter("", "");
  list.vector(names.final_norm, "final_layernorm.weight", {config.hidden_size});
  if (!config.tie_word_embeddings)
    list.matrix("lm_head.weight", "lm_head.weight", config.vocab_size, config.hidden_size);
  return list.done();
}

at::Tensor to_exported(const ExportedTensor& tensor, const at::Tensor& rows) {
  if (tensor.values == Values::zero) return at::zeros(tensor.shape, at::kFloat);
  if (tensor.values == Values::same) return rows.reshape(tensor.shape);
  return rows.to(at::kDouble).exp().neg().to(at::kFloat).reshape(tensor.shape);
}

at::Tensor from_exported(const ExportedTensor& tensor, const at::Tensor& values) {
  if (tensor.values == Values::zero) {
    expect_input(values.eq(0).all().item<bool>(),
                 concat("tensor ", tensor.name, " is not zero; this architecture has no such bias"));
    return at::empty({0}, at::kFloat);
  }
  if (tensor.values == Values::same) return values;
  const at::Tensor a = values.to(at::kFloat).contiguous();
  expect_input(a.lt(0).all().item<bool>(),
               concat("tensor ", tensor.name, " has values that are not negative: the state would grow"));
  at::Tensor a_log = at::empty(a.sizes(), at::kFloat);
  const float* from = a.const_data_ptr<float>();
  float* to = a_log.mutable_data_ptr<float>();
  for (int64_t i = 0; i < a.numel(); ++i) to[i] = log_of(-from[i]);
  return a_log;
}

}  // namespace transxssm
