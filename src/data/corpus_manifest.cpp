#include "data/corpus_manifest.h"

#include "core/atomic_file.h"
#include "core/check.h"

namespace transxssm {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr const char* kFormat = "transxssm-corpus";

}  // namespace

std::optional<CorpusManifest> read_corpus_manifest(const fs::path& folder) {
  const fs::path file = folder / "manifest.json";
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return std::nullopt;
  const std::string text = read_file(file);
  try {
    const json content = json::parse(text);
    // Other programs write a manifest.json too.
    if (!content.is_object() || content.value("format", json()) != kFormat) return std::nullopt;
    CorpusManifest manifest;
    manifest.folder = folder;
    manifest.identity = content.at("identity");
    manifest.counts = content.at("counts").get<CorpusCounts>();
    manifest.shards = content.at("shards").get<std::vector<ShardRecord>>();
    manifest.tokenizer_hash();
    manifest.vocab_size();
    return manifest;
  } catch (const json::exception& problem) {
    throw InputError(concat(file.string(), ": is damaged: ", problem.what(),
                            "; data prepare with --overwrite makes the corpus again"));
  }
}

std::optional<CorpusManifest> find_manifest(const std::string& data_path) {
  fs::path folder = fs::path(data_path).lexically_normal();
  for (int level = 0; level < 3; ++level) {
    if (folder.filename().empty() && folder.has_parent_path()) folder = folder.parent_path();
    if (auto manifest = read_corpus_manifest(folder.empty() ? "." : folder)) return manifest;
    if (folder.empty() || folder == folder.root_path()) break;
    folder = folder.parent_path();
  }
  return std::nullopt;
}

void write_manifest(const CorpusManifest& manifest) {
  const json content = {{"format", kFormat},
                        {"identity", manifest.identity},
                        {"counts", manifest.counts},
                        {"shards", manifest.shards}};
  write_file_atomically(manifest.folder / "manifest.json", content.dump(1) + "\n");
}

}  // namespace transxssm
