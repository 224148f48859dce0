#include "export/hf_config.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "core/check.h"
#include "export/names.h"

namespace transxssm {
using nlohmann::json;
namespace {

constexpr std::array<std::pair<const char*, at::ScalarType>, 3> kTypes{
    {{"bfloat16", at::kBFloat16}, {"float16", at::kHalf}, {"float32", at::kFloat}}};

struct Family {
  ExportFamily family;
  const char* model_type;
  const char* architecture;
};
constexpr std::array<Family, 3> kFamilies{{{ExportFamily::transxssm, "TransXSSM", "TransXSSMForCausalLM"},
                                           {ExportFamily::llama, "llama", "LlamaForCausalLM"},
                                           {ExportFamily::mamba2, "mamba2", "Mamba2ForCausalLM"}}};

// The fields of each family, walked by writing and reading. `fixed` ones have one value for all our networks.
template <class Config, class Visit, class Fixed>
void visit_own_fields(Config& c, Visit&& visit, Fixed&& fixed) {
  visit("intermediate_size", c.intermediate_size);
  visit("rms_norm_eps", c.norm_eps);
  visit("residual_scale", c.residual);
  visit("num_attention_heads", c.attention.num_heads);
  visit("num_key_value_heads", c.attention.num_kv_heads);
  visit("head_dim", c.attention.head_dim);
  visit("qk_norm", c.attention.qk_norm);
  visit("attn_rope", c.attention.rope);
  visit("ssd_chunk_size", c.ssd.chunk_size);
  visit("ssd_num_heads", c.ssd.num_heads);
  visit("ssd_head_dim", c.ssd.head_dim);
  visit("ssd_state_size", c.ssd.state_dim);
  visit("ssd_num_groups", c.ssd.num_groups);
  visit("ssd_rope", c.ssd.rope);
  visit("ssd_conv_width", c.ssd.conv_width);
  visit("ssd_gate", c.ssd.gate);
  visit("ssd_d_skip", c.ssd.d_skip);
  visit("ssd_bc_norm", c.ssd.bc_norm);
  fixed("hidden_act", "silu");
}

template <class Config, class Visit, class Fixed>
void visit_llama_fields(Config& c, Visit&& visit, Fixed&& fixed) {
  visit("intermediate_size", c.intermediate_size);
  visit("rms_norm_eps", c.norm_eps);
  visit("num_attention_heads", c.attention.num_heads);
  visit("num_key_value_heads", c.attention.num_kv_heads);
  visit("head_dim", c.attention.head_dim);
  fixed("hidden_act", "silu");
  fixed("attention_bias", false);
  fixed("mlp_bias", false);
}

template <class Config, class Visit, class Fixed>
void visit_mamba2_fields(Config& c, Visit&& visit, Fixed&& fixed) {
  visit("layer_norm_epsilon", c.norm_eps);
  visit("num_heads", c.ssd.num_heads);
  visit("head_dim", c.ssd.head_dim);
  visit("state_size", c.ssd.state_dim);
  visit("n_groups", c.ssd.num_groups);
  visit("conv_kernel", c.ssd.conv_width);
  visit("chunk_size", c.ssd.chunk_size);
  fixed("hidden_act", "silu");
  fixed("use_bias", false);
  fixed("use_conv_bias", true);
  fixed("residual_in_fp32", true);
}

template <class Config, class Visit, class Fixed>
void visit_hf_fields(ExportFamily family, Config& c, Visit&& visit, Fixed&& fixed) {
  visit("vocab_size", c.vocab_size);
  visit("hidden_size", c.hidden_size);
  visit("num_hidden_layers", c.num_layers);
  visit("tie_word_embeddings", c.tie_word_embeddings);
  visit("initializer_range", c.init_std);
  if (family == ExportFamily::llama)
    visit_llama_fields(c, visit, fixed);
  else if (family == ExportFamily::mamba2)
    visit_mamba2_fields(c, visit, fixed);
  else
    visit_own_fields(c, visit, fixed);
}

template <class Rope, class Visit>
void visit_rope_fields(RopeScaling scaling, Rope& c, Visit&& visit) {
  visit("factor", c.factor);
  if (scaling == RopeScaling::yarn || scaling == RopeScaling::llama3)
    visit("original_max_position_embeddings", c.original_max_position);
  if (scaling == RopeScaling::yarn) {
    visit("beta_fast", c.beta_fast);
    visit("beta_slow", c.beta_slow);
  }
  if (scaling == RopeScaling::llama3) {
    visit("low_freq_factor", c.low_freq_factor);
    visit("high_freq_factor", c.high_freq_factor);
  }
}

template <class T>
json to_value(const T& value) {
  if constexpr (NamedEnum<T>)
    return enum_name(value);
  else
    return value;
}

// "S" and "A" of each layer, shortened to the part that repeats.
std::string repeating_pattern(const std::vector<MixerKind>& mixers) {
  std::string letters;
  for (const MixerKind mixer : mixers) letters += mixer == MixerKind::attention ? 'A' : 'S';
  for (size_t length = 1; length < letters.size(); ++length) {
    if (letters.size() % length != 0) continue;
    std::string repeated;
    while (repeated.size() < letters.size()) repeated += letters.substr(0, length);
    if (repeated == letters) return letters.substr(0, length);
  }
  return letters;
}

// The published classes know no other pattern than one attention layer in `period`.
void add_layer_fields(const ModelConfig& config, json& out) {
  const auto mixers = layer_mixers(config);
  for (const MixerKind mixer : mixers)
    out["layer_mixers"].push_back(mixer == MixerKind::attention ? "attn" : "ssd");
  const std::string pattern = repeating_pattern(mixers);
  const size_t first = pattern.find('A');
  const auto set = [&](size_t period, size_t offset) {
    out["attn_layer_period"] = period;
    out["attn_layer_offset"] = offset;
  };
  if (first == std::string::npos)
    set(mixers.size() + 1, mixers.size());
  else if (first == pattern.rfind('A'))
    set(pattern.size(), first);
  out["hidden_bias"] = pattern.find('S') != std::string::npos;
}

void add_rope(const ModelConfig& config, ExportFamily family, json& out) {
  RopeConfig rope = config.rope;
  if (family == ExportFamily::llama && rope.scaling == RopeScaling::ntk) {  // only another base
    const auto w = static_cast<double>(config.attention.head_dim);
    rope.theta *= std::pow(rope.factor, w / (w - 2));
    rope.scaling = RopeScaling::none;
  }
  out["rope_theta"] = rope.theta;
  out["rope_scaling"] = nullptr;  // a default of the published class is another one
  if (rope.scaling == RopeScaling::none) return;
  json scaling = {{"rope_type", enum_name(rope.scaling)}};
  visit_rope_fields(rope.scaling, rope, [&](const char* key, const auto& value) { scaling[key] = value; });
  if (rope.attention_factor > 0) scaling["attention_factor"] = rope.attention_factor;
  out["rope_scaling"] = std::move(scaling);
}

// The library would turn 2^64 - 1 into -1.
bool is_int64(const json& value) {
  constexpr uint64_t kLargest = std::numeric_limits<int64_t>::max();
  return value.is_number_integer() && !(value.is_number_unsigned() && value.get<uint64_t>() > kLargest);
}

// Reads fields of a config.json; each mistake names file and field.
class FieldReader {
 public:
  FieldReader(const json& tree, std::string file) : tree_(tree), file_(std::move(file)) {}

  template <class T>
  void operator()(const char* key, T& value) const {
    const json& found = at(key);
    if constexpr (NamedEnum<T>) {
      for (const auto& entry : enum_names(value))
        if (found == entry.name) {
          value = entry.value;
          return;
        }
      wrong(key, found);
    } else {
      const bool fits = std::is_same_v<T, bool>       ? found.is_boolean()
                        : std::is_floating_point_v<T> ? found.is_number()
                                                      : is_int64(found);
      if (!fits) wrong(key, found);
      value = found.get<T>();
    }
  }
  const json& at(const char* key) const {
    expect_input(tree_.contains(key), concat(file_, ": has no field ", key));
    return tree_.at(key);
  }
  // A token that there may be none of.
  std::optional<int64_t> id(const char* key, int64_t vocab_size) const {
    const auto found = tree_.find(key);
    if (found == tree_.end() || found->is_null()) return std::nullopt;
    const bool fits = is_int64(*found) && *found >= 0 && *found < vocab_size;
    expect_input(fits, concat(file_, ": ", key, " is ", found->dump(), "; valid are null and 0 to ",
                              vocab_size - 1, ", the ids below vocab_size"));
    return found->get<int64_t>();
  }
  [[noreturn]] void wrong(const char* key, const json& value) const {
    throw InputError(concat(file_, ": ", key, " is ", value.dump(), ", which no model of this program has"));
  }
  [[noreturn]] void wrong(const char* key, const json& value, const std::string& expected) const {
    throw InputError(concat(file_, ": ", key, " is ", value.dump(), "; the other fields make it ", expected));
  }

 private:
  const json& tree_;
  std::string file_;
};

void read_layers(const FieldReader& read, ModelConfig& config) {
  std::vector<MixerKind> mixers;
  const json& listed = read.at("layer_mixers");
  for (const json& mixer : listed) {
    if (mixer != "attn" && mixer != "ssd") read.wrong("layer_mixers", listed);
    mixers.push_back(mixer == "attn" ? MixerKind::attention : MixerKind::ssd);
  }
  if (static_cast<int64_t>(mixers.size()) != config.num_layers || mixers.empty())
    read.wrong("layer_mixers", listed);
  config.layers.pattern = repeating_pattern(mixers);
}

void read_rope(const FieldReader& read, const std::string& file, RopeConfig& rope) {
  read("rope_theta", rope.theta);
  const json& scaling = read.at("rope_scaling");
  if (scaling.is_null()) return;
  const FieldReader inner(scaling, file + ": rope_scaling");
  inner("rope_type", rope.scaling);
  visit_rope_fields(rope.scaling, rope, inner);
  if (scaling.contains("attention_factor")) inner("attention_factor", rope.attention_factor);
}

// Fields that we do not need, where present, have to agree with what we make of the others.
void refuse_contradictions(const FieldReader& read, const json& tree, ExportFamily family,
                           const ModelConfig& config) {
  const auto agrees = [&](const char* key, const json& expected) {
    if (tree.contains(key) && tree[key] != expected) read.wrong(key, tree[key], expected.dump());
  };
  if (family == ExportFamily::mamba2) {
    agrees("time_step_limit", nullptr);  // ours is [0, infinity], which JSON cannot say
    agrees("expand", config.ssd.num_heads * config.ssd.head_dim / config.hidden_size);
    return;
  }
  agrees("partial_rotary_factor", 1.0);
  const auto parameters = tree.find("rope_parameters");  // transformers 5 saves rope_theta here as well
  if (parameters != tree.end() && parameters->is_object() && parameters->contains("rope_theta") &&
      parameters->at("rope_theta") != tree["rope_theta"])
    read.wrong("rope_theta", tree["rope_theta"], parameters->at("rope_theta").dump());
  if (family == ExportFamily::llama) return;
  json layers;
  add_layer_fields(config, layers);
  for (const auto& [key, expected] : layers.items()) agrees(key.c_str(), expected);
}

// What the class of a family implies without a field.
void apply_family(ExportFamily family, ModelConfig& config) {
  if (family == ExportFamily::transxssm) return;
  config.residual = ResidualKind::plain;
  config.layers.pattern = family == ExportFamily::llama ? "A" : "S";
  if (family == ExportFamily::llama) return;
  config.intermediate_size = 0;
  config.ssd.rope = config.ssd.bc_norm = false;
  config.ssd.gate = config.ssd.d_skip = true;
}

void add_ids(const ExportDetails& details, json& out) {
  const auto add = [&](const char* key, const std::optional<int64_t>& id) {
    out[key] = id ? json(*id) : json(nullptr);
  };
  add("bos_token_id", details.bos_id);
  add("eos_token_id", details.eos_id);
  add("pad_token_id", details.pad_id);
}

}  // namespace

json hf_config(const ModelConfig& config, const ExportDetails& details) {
  const ExportFamily family = export_family(config);
  json out;
  for (const auto& entry : kFamilies)
    if (entry.family == family) {
      out["model_type"] = entry.model_type;
      out["architectures"] = {entry.architecture};
    }
  visit_hf_fields(
      family, config, [&](const char* key, const auto& value) { out[key] = to_value(value); },
      [&](const char* key, const json& value) { out[key] = value; });
  for (const auto& [name, type] : kTypes)
    if (type == details.dtype) out["dtype"] = name;
  out["use_cache"] = true;
  add_ids(details, out);
  out["max_position_embeddings"] = details.max_positions;
  if (family == ExportFamily::mamba2) {
    out["expand"] = config.ssd.num_heads * config.ssd.head_dim / config.hidden_size;
    return out;
  }
  add_rope(config, family, out);
  if (family == ExportFamily::llama) return out;
  add_layer_fields(config, out);
  out["auto_map"] = {{"AutoConfig", "configuration_transxssm.TransXSSMConfig"},
                     {"AutoModel", "modeling_transxssm.TransXSSMModel"},
                     {"AutoModelForCausalLM", "modeling_transxssm.TransXSSMForCausalLM"}};
  return out;
}

json hf_generation_config(const ExportDetails& details) {
  json out = {{"use_cache", true}};
  add_ids(details, out);
  return out;
}

ExportedConfig read_hf_config(const json& config, const std::string& file) {
  expect_input(config.is_object(), concat(file, ": is not a JSON object"));
  const FieldReader read(config, file);
  const auto* known = kFamilies.end();
  const json& type = read.at("model_type");
  for (const auto& entry : kFamilies)
    if (type == entry.model_type) known = &entry;
  expect_input(known != kFamilies.end(),
               concat(file, ": model_type is ", type.dump(),
                      "; this program reads what it exports: TransXSSM, llama, mamba2"));
  const json& classes = read.at("architectures");
  expect_input(classes == json::array({known->architecture}),
               concat(file, ": architectures is ", classes.dump(), "; for model_type ", type.dump(),
                      " this program reads [\"", known->architecture, "\"]"));
  ExportedConfig out;
  apply_family(known->family, out.model);
  visit_hf_fields(known->family, out.model, read, [&](const char* key, const json& value) {
    if (read.at(key) != value) read.wrong(key, read.at(key));
  });
  if (known->family == ExportFamily::transxssm) read_layers(read, out.model);
  if (known->family != ExportFamily::mamba2) read_rope(read, file, out.model.rope);
  refuse_contradictions(read, config, known->family, out.model);
  read("max_position_embeddings", out.details.max_positions);
  const json& dtype = read.at("dtype");
  bool type_known = false;
  for (const auto& [name, scalar] : kTypes)
    if (dtype == name) {
      out.details.dtype = scalar;
      type_known = true;
    }
  if (!type_known) read.wrong("dtype", dtype);
  out.details.bos_id = read.id("bos_token_id", out.model.vocab_size);
  out.details.eos_id = read.id("eos_token_id", out.model.vocab_size);
  out.details.pad_id = read.id("pad_token_id", out.model.vocab_size);
  return out;
}

}  // namespace transxssm
