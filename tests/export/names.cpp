// The table of exported names: complete, with the published names, shapes and signs.
#include "export/names.h"

#include <cmath>
#include <map>
#include <set>

#include <ATen/ATen.h>

#include "model/hybrid_model.h"
#include "support/catch.h"
#include "support/require_error.h"
#include "support/tiny_model.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

ModelConfig llama() {
  ModelConfig config = tiny_config("transformer");
  config.residual = ResidualKind::plain;
  return config;
}

std::map<std::string, ExportedTensor> by_name(const ModelConfig& config) {
  std::map<std::string, ExportedTensor> out;
  for (const auto& tensor : exported_tensors(config)) REQUIRE(out.emplace(tensor.name, tensor).second);
  return out;
}

}  // namespace

TEST_CASE("exported names: every row of every logical tensor travels once") {
  std::vector<ModelConfig> configs{llama()};
  for (const std::string& name : architectures()) configs.push_back(tiny_config(name));
  for (const ModelConfig& config : configs) {
    std::map<std::string, std::vector<int64_t>> shapes;
    for (const auto& spec : HybridModel::parameter_specs(config))
      for (const auto& part : spec.parts) shapes[part.name] = part.shape;
    std::map<std::string, std::set<int64_t>> rows;
    for (const auto& tensor : exported_tensors(config)) {
      CAPTURE(tensor.name);
      int64_t listed = 0;
      for (const LogicalRows& part : tensor.rows) {
        listed += part.count;
        for (int64_t row = part.begin; row < part.begin + part.count; ++row)
          REQUIRE(rows[part.name].insert(row).second);
      }
      REQUIRE((listed == tensor.shape[0] || tensor.values == ExportedTensor::Values::zero));
    }
    REQUIRE(rows.size() == shapes.size());
    for (const auto& [name, shape] : shapes) {
      CAPTURE(name);
      REQUIRE(static_cast<int64_t>(rows[name].size()) == shape[0]);
      REQUIRE(*rows[name].rbegin() == shape[0] - 1);
    }
  }
}

TEST_CASE("exported names: the class that computes the model") {
  REQUIRE(export_family(tiny_config("transxssm")) == ExportFamily::transxssm);
  REQUIRE(export_family(tiny_config("transformer")) == ExportFamily::transxssm);
  REQUIRE(export_family(tiny_config("hybrid-plain")) == ExportFamily::transxssm);
  REQUIRE(export_family(tiny_config("mamba2")) == ExportFamily::mamba2);
  REQUIRE(export_family(llama()) == ExportFamily::llama);
  ModelConfig grouped = tiny_config("mamba2");
  grouped.ssd.num_groups = 2;  // that class norms each group alone
  REQUIRE(export_family(grouped) == ExportFamily::transxssm);
  ModelConfig normed = llama();
  normed.attention.qk_norm = true;
  REQUIRE(export_family(normed) == ExportFamily::transxssm);
}

TEST_CASE("exported names: those of the published classes") {
  const auto tensors = by_name(tiny_config("transxssm"));
  const int64_t d = 32, h = 2, f = 48;
  using Shape = std::vector<int64_t>;
  const std::map<std::string, Shape> published{{"model.word_embed.weight", {61, d}},
                                               {"model.final_layernorm.weight", {d}},
                                               {"model.layers.0.pre_sequence_layernorm.weight", {d}},
                                               {"model.layers.0.ssd.c_proj.weight", {32, d}},
                                               {"model.layers.0.ssd.b_proj.weight", {32, d}},
                                               {"model.layers.0.ssd.x_proj.weight", {32, d}},
                                               {"model.layers.0.ssd.dt_proj.weight", {h, d}},
                                               {"model.layers.0.ssd.dt_proj.bias", {h}},
                                               {"model.layers.0.ssd.A", {h}},
                                               {"model.layers.0.ssd.out_proj.weight", {d, 32}},
                                               {"model.layers.0.ssd.out_proj.bias", {d}},
                                               {"model.layers.0.post_sequence_residual.weight", {d}},
                                               {"model.layers.0.pre_state_layernorm.weight", {d}},
                                               {"model.layers.0.feed_forward.gate_proj.weight", {f, d}},
                                               {"model.layers.0.feed_forward.gate_proj.bias", {f}},
                                               {"model.layers.0.feed_forward.down_proj.weight", {d, f}},
                                               {"model.layers.0.post_state_residual.weight", {d}},
                                               {"model.layers.1.attn.q_proj.weight", {32, d}},
                                               {"model.layers.1.attn.q_proj.bias", {32}},
                                               {"model.layers.1.attn.k_proj.weight", {32, d}},
                                               {"model.layers.1.attn.v_proj.weight", {32, d}},
                                               {"model.layers.1.attn.o_proj.weight", {d, 32}}};
  for (const auto& [name, shape] : published) {
    CAPTURE(name);
    REQUIRE(tensors.count(name) == 1);
    REQUIRE(tensors.at(name).shape == shape);
  }
  for (const auto& [name, tensor] : tensors) {
    CAPTURE(name);
    const bool is_bias = name.ends_with(".bias"), is_dt = name.ends_with("dt_proj.bias");
    REQUIRE((tensor.values == ExportedTensor::Values::zero) == (is_bias && !is_dt));
    REQUIRE((tensor.values == ExportedTensor::Values::negative_exp) == name.ends_with(".A"));
  }
  REQUIRE(tensors.count("lm_head.weight") == 0);
}

TEST_CASE("exported names: A is negative, and its logarithm gives the same A again") {
  const ExportedTensor a{"A", {4096}, {{"A_log", 0, 4096}}, ExportedTensor::Values::negative_exp, true};
  const at::Tensor a_log = at::linspace(-3.0, 4.0, 4096, at::kFloat);
  const at::Tensor exported = to_exported(a, a_log);
  REQUIRE(exported.lt(0).all().item<bool>());
  const at::Tensor back = from_exported(a, exported);
  REQUIRE((back - a_log).abs().max().item<float>() <= 1e-6F);
  REQUIRE(at::equal(to_exported(a, back), exported));
  require_error([&] { from_exported(a, exported.neg()); }, "not negative");
  const ExportedTensor bias{"q_proj.bias", {3}, {}, ExportedTensor::Values::zero, true};
  REQUIRE(at::equal(to_exported(bias, {}), at::zeros({3})));
  require_error([&] { from_exported(bias, at::ones({3})); }, "q_proj.bias is not zero");
}
