// Exported folders: what is written is read back, and what is damaged is refused with the reason.
#include "export/folder.h"

#include <cmath>
#include <filesystem>
#include <functional>

#include <nlohmann/json.hpp>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "checkpoint/safetensors.h"
#include "core/atomic_file.h"
#include "export/names.h"
#include "export/parity.h"
#include "support/catch.h"
#include "support/require_error.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

using namespace transxssm;
using namespace transxssm::test;
namespace fs = std::filesystem;

namespace {

const ExportDetails kDetails{at::kFloat, 64, 1, 2, std::nullopt};

void write_folder(const fs::path& folder, const ModelConfig& config, const FlatParameters& parameters,
                  uint64_t max_shard_bytes = kMaxExportShardBytes) {
  fs::create_directories(folder);
  write_config_files(folder, config, kDetails, /*own_tokenizer=*/false);
  write_exported_weights(folder, config, parameters, at::kFloat, max_shard_bytes);
}

// Rewrites model.safetensors with changed tensors.
void change_tensors(const fs::path& folder,
                    const std::function<void(std::map<std::string, at::Tensor>&)>& change) {
  std::map<std::string, at::Tensor> tensors;
  {
    const SafetensorsFile file(folder / "model.safetensors");
    for (const auto& [name, entry] : file.entries()) tensors[name] = file.read(name);
  }
  change(tensors);
  write_safetensors(folder / "model.safetensors", NamedTensors(tensors.begin(), tensors.end()));
}

}  // namespace

TEST_CASE("exported folder: configuration and weights come back") {
  for (const std::string& name : architectures()) {
    CAPTURE(name);
    const TempFolder folder;
    const ModelConfig config = tiny_config(name);
    const TinyModel model(config);
    // Shards small enough that there are several.
    write_folder(folder.path(), config, model.parameters, 4096);
    REQUIRE(is_exported_folder(folder.path()));
    REQUIRE(fs::exists(folder / "model.safetensors.index.json"));
    const ExportedConfig read = read_exported_config(folder.path());
    REQUIRE(hf_config(read.model, read.details) == hf_config(config, kDetails));
    REQUIRE((layer_mixers(read.model) == layer_mixers(config)));

    FlatParameters back(HybridModel::parameter_specs(read.model), at::kCPU, at::kFloat,
                        ParameterUse::inference);
    ExportedWeights(folder.path(), read.model).load(back);
    for (size_t i = 0; i < back.logical().size(); ++i) {
      CAPTURE(back.logical()[i].name);
      const auto& original = model.parameters.logical()[i];
      REQUIRE(back.logical()[i].name == original.name);
      const bool is_log = original.name.ends_with("A_log");
      REQUIRE(at::allclose(back.logical()[i].weight, original.weight.detach(), is_log ? 1e-6 : 0, 0));
    }
    const HybridModel again(read.model, back.table(), ModelOptions{.max_positions = 64});
    const auto tokens = random_tokens(2, 40, 3);
    const auto documents = ops::one_document_per_row(2, 40, at::kCPU);
    const at::NoGradGuard no_grad;
    REQUIRE(at::allclose(again.logits(tokens, documents), model.model.logits(tokens, documents), 1e-5, 1e-5));
  }
}

TEST_CASE("exported folder: 16 bits for matrices only") {
  const TempFolder folder;
  const ModelConfig config = tiny_config("transxssm");
  TinyModel model(config);
  write_exported_weights(folder.path(), config, model.parameters, at::kBFloat16);
  const SafetensorsFile file(folder / "model.safetensors");
  for (const auto& tensor : exported_tensors(config)) {
    CAPTURE(tensor.name);
    REQUIRE(file.entry(tensor.name).type == (tensor.full_precision ? at::kFloat : at::kBFloat16));
    REQUIRE(tensor.full_precision == (tensor.shape.size() == 1));
  }
  const at::NoGradGuard no_grad;
  model.parameters.logical()[0].weight.mul_(1e6);
  require_error([&] { write_exported_weights(folder.path(), config, model.parameters, at::kHalf); },
                "not finite in fp16; try --dtype bf16");
}

TEST_CASE("exported folder: damage is named") {
  const TempFolder folder;
  const ModelConfig config = tiny_config("transxssm");
  const TinyModel model(config);
  const std::string a = "model.layers.0.ssd.A";
  const auto refused = [&](const std::function<void()>& damage, const std::string& says) {
    fs::remove_all(folder.path());
    write_folder(folder.path(), config, model.parameters);
    damage();
    require_error(
        [&] {
          const ExportedConfig read = read_exported_config(folder.path());
          FlatParameters back(HybridModel::parameter_specs(read.model), at::kCPU, at::kFloat,
                              ParameterUse::inference);
          ExportedWeights(folder.path(), read.model).load(back);
        },
        says);
  };
  const auto edit_config = [&](const std::function<void(nlohmann::json&)>& edit) {
    auto tree = nlohmann::json::parse(read_file(folder / "config.json"));
    edit(tree);
    write_file_atomically(folder / "config.json", tree.dump());
  };
  using Tensors = std::map<std::string, at::Tensor>;
  const auto edit_tensors = [&](const std::function<void(Tensors&)>& edit) {
    change_tensors(folder.path(), edit);
  };

  refused([&] { edit_tensors([&](Tensors& t) { t.erase(a); }); }, "has no tensor " + a);
  refused([&] { edit_tensors([&](Tensors& t) { t["extra"] = at::ones({2}); }); },
          "tensor extra has no place");
  refused([&] { edit_tensors([&](Tensors& t) { t[a] = -at::ones({3}); }); }, a + " has the shape [3]");
  refused([&] { edit_tensors([&](Tensors& t) { t[a] = t[a].to(at::kInt); }); }, a + " has the type Int");
  refused([&] { edit_tensors([&](Tensors& t) { t[a].neg_(); }); }, a + " has values that are not negative");
  refused([&] { fs::resize_file(folder / "model.safetensors", 5000); }, "not a whole safetensors file");
  refused([&] { fs::remove(folder / "model.safetensors"); }, "model.safetensors");
  refused([&] { write_file_atomically(folder / "model.safetensors.index.json", "{}"); }, "has no weight_map");
  refused([&] { write_file_atomically(folder / "config.json", "{"); }, "config.json: is not JSON");
  refused([&] { edit_config([](auto& t) { t["model_type"] = "gpt2"; }); }, "model_type is \"gpt2\"");
  refused([&] { edit_config([](auto& t) { t["architectures"] = {"OtherForCausalLM"}; }); },
          "architectures is [\"OtherForCausalLM\"]");
  refused([&] { edit_config([](auto& t) { t.erase("ssd_rope"); }); }, "has no field ssd_rope");
  refused([&] { edit_config([](auto& t) { t["hidden_size"] = "wide"; }); }, "hidden_size is \"wide\"");
  refused([&] { edit_config([](auto& t) { t["hidden_act"] = "gelu"; }); }, "hidden_act is \"gelu\"");
  refused([&] { edit_config([](auto& t) { t["layer_mixers"] = {"ssd"}; }); }, "layer_mixers");
  refused([&] { edit_config([](auto& t) { t["hidden_bias"] = false; }); }, "hidden_bias is false");
  refused([&] { edit_config([](auto& t) { t["partial_rotary_factor"] = 0.5; }); },
          "the other fields make it 1");
  refused([&] { edit_config([](auto& t) {
                  t["rope_parameters"] = {{"rope_theta", 7.0}};
                }); },
          "rope_theta is");
  refused([&] { edit_tensors([&](Tensors& t) { t[a].fill_(-INFINITY); }); },
          a + " holds values that are not finite");
  refused([&] { edit_config([](auto& t) { t["rope_scaling"] = {{"rope_type", "dynamic"}}; }); }, "rope_type");
}

TEST_CASE("parity: no number is no agreement") {
  const at::Tensor logits = at::randn({3, 5});
  const auto changed = [&](double value) {
    at::Tensor other = logits.clone();
    other[1][2] = value;
    return compare_logits(logits, other);
  };
  const double limit = parity_limit(logits);
  REQUIRE_NOTHROW(expect_same(compare_logits(logits, logits), limit));
  for (const double value : {double{NAN}, double{INFINITY}, 100.0})
    REQUIRE_THROWS_AS(expect_same(changed(value), limit), std::runtime_error);
}
