#include "data/prepare_state.h"

#include "core/atomic_file.h"
#include "core/check.h"
#include "core/hash.h"

namespace transxssm {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

// Raised when the same input and options come to give other bytes.
constexpr int kFormatVersion = 1;

fs::path state_file(const fs::path& folder) { return folder / "prepare-state.json"; }

const char* format_name(TextFormat format) {
  switch (format) {
    case TextFormat::text:
      return "text";
    case TextFormat::jsonl:
      return "jsonl";
    case TextFormat::automatic:
      break;
  }
  return "auto";
}

std::string source_change(const json& before, const json& now) {
  if (before.size() != now.size()) return concat(before.size(), " input files (now ", now.size(), ")");
  for (size_t i = 0; i < now.size(); ++i) {
    const std::string was = before[i].at("name").get<std::string>();
    const std::string is = now[i].at("name").get<std::string>();
    if (was != is) return concat("the input ", was, " (now ", is, ")");
    if (before[i] != now[i]) return concat("other content in ", is);
  }
  return {};
}

}  // namespace

json corpus_identity(const PrepareOptions& options, const Tokenizer& tokenizer,
                     const std::vector<TextSource>& sources) {
  json listed = json::array();
  for (const TextSource& source : sources) {
    const bool file = source.path != "-";
    listed.push_back({{"name", source.name},
                      {"bytes", source.bytes},
                      {"format", format_name(source.format)},
                      {"hash", file ? hash_file(source.path) : ""}});
  }
  return {{"version", kFormatVersion},
          {"tokenizer", {{"hash", tokenizer.hash()}, {"vocab_size", tokenizer.vocab_size()}}},
          {"text_field", options.text_field},
          {"bos", options.bos},
          {"shard_tokens", options.shard_tokens},
          {"validation_fraction", options.validation_fraction},
          {"validation_documents", options.validation_documents},
          {"sources", listed}};
}

void expect_same_identity(const json& before, const json& now, const fs::path& folder) {
  std::string differences;
  for (const auto& [key, value] : now.items()) {
    const json& was = before.contains(key) ? before[key] : json();
    if (was == value) continue;
    std::string difference = concat(key, " ", was.dump(), " (now ", value.dump(), ")");
    if (key == "sources") difference = source_change(was, value);
    if (key == "tokenizer") difference = "another tokenizer";
    differences += (differences.empty() ? "" : ", ") + difference;
  }
  expect_input(differences.empty(), concat(folder.string(), ": was prepared with ", differences,
                                           "; choose another folder, or --overwrite to make it again"));
}

std::optional<PrepareState> read_prepare_state(const fs::path& folder) {
  const fs::path file = state_file(folder);
  if (!fs::exists(file)) return std::nullopt;
  try {
    const json content = json::parse(read_file(file));
    PrepareState state;
    state.identity = content.at("identity");
    state.counts = content.at("counts").get<CorpusCounts>();
    state.shards = content.at("shards").get<std::vector<ShardRecord>>();
    state.validation_parts = content.at("validation_parts").get<std::vector<ShardRecord>>();
    state.next = content.at("next").get<InputPosition>();
    if (content.contains("limit")) state.limit = content["limit"].get<SelectionLimit>();
    return state;
  } catch (const json::exception& problem) {
    throw InputError(
        concat(file.string(), ": is damaged: ", problem.what(), "; start again with --overwrite"));
  }
}

void write_prepare_state(const fs::path& folder, const PrepareState& state) {
  json content = {{"identity", state.identity},
                  {"counts", state.counts},
                  {"shards", state.shards},
                  {"validation_parts", state.validation_parts},
                  {"next", state.next}};
  if (state.limit) content["limit"] = *state.limit;
  write_file_atomically(state_file(folder), content.dump(1) + "\n");
}

void remove_prepare_state(const fs::path& folder) {
  std::error_code error;
  fs::remove(state_file(folder), error);
}

}  // namespace transxssm
