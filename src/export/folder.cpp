#include "export/folder.h"

#include <nlohmann/json.hpp>

#include "checkpoint/manifest.h"
#include "core/atomic_file.h"
#include "core/check.h"
#include "core/hash.h"
#include "export/hf_files.h"
#include "export/json_file.h"
#include "export/names.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

constexpr const char* kConfig = "config.json";

}  // namespace

bool is_exported_folder(const fs::path& path) {
  return fs::is_regular_file(path / kConfig) && !fs::exists(path / kManifestName);
}

ExportedConfig read_exported_config(const fs::path& folder) {
  const fs::path file = folder / kConfig;
  return read_hf_config(read_json(file), file.string());
}

std::string exported_tokenizer_hash(const fs::path& folder) {
  const fs::path file = folder / kParityName, model = folder / kSentencePieceName;
  if (fs::exists(file)) {
    const auto report = read_json(file);
    expect_input(report.is_object(), file.string() + ": is no JSON object");
    const auto hash = report.find("tokenizer_hash");
    if (hash != report.end() && hash->is_string() && *hash != "") return hash->get<std::string>();
  }
  return fs::exists(model) ? hash_file(model) : "";
}

void write_config_files(const fs::path& folder, const ModelConfig& config, const ExportDetails& details,
                        bool own_tokenizer) {
  const auto write = [&](const std::string& name, const nlohmann::json& tree) {
    write_file_atomically(folder / name, tree.dump(2) + "\n");
  };
  write(kConfig, hf_config(config, details));
  write("generation_config.json", hf_generation_config(details));
  const bool own_classes = export_family(config) == ExportFamily::transxssm;
  for (const EmbeddedFile& file : hf_files()) {
    const bool of_tokenizer = file.name.starts_with("tokenization_");
    if (of_tokenizer ? own_tokenizer : own_classes) write_file_atomically(folder / file.name, file.text);
  }
}

}  // namespace transxssm
