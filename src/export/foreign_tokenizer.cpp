#include "export/foreign_tokenizer.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <string_view>
#include <utility>

#include "core/atomic_file.h"
#include "core/check.h"
#include "core/hash.h"
#include "core/logging.h"
#include "export/hf_files.h"
#include "export/json_file.h"
#include "export/tokenizer_files.h"

namespace transxssm {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr const char* kConfig = "tokenizer_config.json";
constexpr const char* kFast = "tokenizer.json";
constexpr const char* kTemplates = "additional_chat_templates";

// Files of a model's folder that are not its tokenizer's.
bool belongs_to_model(const std::string& name) {
  constexpr std::array<std::string_view, 13> kEndings = {
      ".safetensors", ".bin",  ".pt",  ".pth", ".ckpt",       ".h5",    ".msgpack",
      ".onnx",        ".gguf", ".npz", ".md",  ".index.json", ".tflite"};
  constexpr std::array<std::string_view, 4> kBeginnings = {".", "modeling_", "configuration_", "modular_"};
  constexpr std::array<std::string_view, 3> kNames = {"config.json", "generation_config.json", "parity.json"};
  const auto& ours = hf_files();
  return std::any_of(kEndings.begin(), kEndings.end(), [&](auto part) { return name.ends_with(part); }) ||
         std::any_of(kBeginnings.begin(), kBeginnings.end(),
                     [&](auto part) { return name.starts_with(part); }) ||
         std::find(kNames.begin(), kNames.end(), name) != kNames.end() ||
         std::any_of(ours.begin(), ours.end(), [&](const EmbeddedFile& file) {
           return file.name == name && !name.starts_with("tokenization_");
         });
}

json read_if_there(const fs::path& file) {
  if (!fs::is_regular_file(file)) return json::object();
  json tree = read_json(file);
  expect_input(tree.is_object(), concat(file.string(), ": is no JSON object"));
  return tree;
}

// Of a token that is text, or an object that holds its text.
std::optional<std::string> text_of(const json& token) {
  const json& text = token.is_object() && token.contains("content") ? token.at("content") : token;
  return text.is_string() ? std::optional(text.get<std::string>()) : std::nullopt;
}

using Ids = std::map<std::string, int64_t>;

void add_id(const json& token, const json& id, Ids& ids) {
  const auto text = text_of(token);
  if (text && id.is_number_unsigned()) ids.emplace(*text, id.get<int64_t>());
}

// {"token": id}, or [["piece", score]] in the order of the ids.
void add_vocabulary(const json& vocabulary, Ids& ids) {
  if (vocabulary.is_object())
    for (const auto& [token, id] : vocabulary.items()) add_id(token, id, ids);
  if (vocabulary.is_array())
    for (size_t id = 0; id < vocabulary.size(); ++id)
      if (vocabulary[id].is_array() && !vocabulary[id].empty()) add_id(vocabulary[id][0], id, ids);
}

// From every place where transformers keeps ids. Where two of them have a token, the first counts.
Ids read_ids(const fs::path& folder) {
  Ids ids;
  const auto part = [](const json& tree, const char* at) {
    const json::json_pointer pointer(at);
    return tree.contains(pointer) ? tree.at(pointer) : json();
  };
  const json fast = read_if_there(folder / kFast);
  const json decoder = part(read_if_there(folder / kConfig), "/added_tokens_decoder");
  for (const auto& [id, token] : decoder.items()) add_id(token, json::parse(id, nullptr, false), ids);
  for (const json& token : part(fast, "/added_tokens")) add_id(token, part(token, "/id"), ids);
  add_vocabulary(part(fast, "/model/vocab"), ids);
  for (const char* name : {"added_tokens.json", "vocab.json"})
    add_vocabulary(read_if_there(folder / name), ids);
  if (std::ifstream lines(folder / "vocab.txt"); lines)
    for (auto [token, id] = std::pair(std::string(), int64_t{0}); std::getline(lines, token); ++id)
      ids.emplace(token, id);
  return ids;
}

json read_special(const fs::path& folder) {
  json special = read_if_there(folder / "special_tokens_map.json");
  const json config = read_if_there(folder / kConfig);
  for (const char* key : {"bos_token", "eos_token", "pad_token"})
    if (config.contains(key)) special[key] = config.at(key);
  return special;
}

}  // namespace

bool holds_foreign_tokenizer(const fs::path& folder) {
  if (fs::is_regular_file(folder / kFast)) return true;
  if (!fs::is_regular_file(folder / kConfig)) return false;
  const json config = read_json(folder / kConfig);
  return !config.is_object() || config.value("tokenizer_class", json()) != kOwnTokenizerClass;
}

ForeignTokenizer::ForeignTokenizer(const fs::path& folder) : folder_(folder) {
  expect_input(holds_foreign_tokenizer(folder), concat(folder.string(), ": has no ", kFast, " or ", kConfig,
                                                       ", so no tokenizer that transformers loads"));
  const auto collect = [&](const fs::path& below) {
    for (const auto& entry : fs::directory_iterator(folder_ / below)) {
      const std::string name = entry.path().filename().string();
      if (entry.is_regular_file() && !belongs_to_model(name)) files_.push_back(below / name);
    }
  };
  collect("");
  if (fs::is_directory(folder_ / kTemplates)) collect(kTemplates);
  std::sort(files_.begin(), files_.end());
  special_ = read_special(folder_);
  ids_ = read_ids(folder_);
}

void ForeignTokenizer::copy_to(const fs::path& folder) const {
  for (const fs::path& file : files_) {
    make_folders((folder / file).parent_path());
    write_file_atomically(folder / file, read_file(folder_ / file));
  }
}

std::optional<int64_t> ForeignTokenizer::special_id(const char* key) const {
  const auto text = special_.contains(key) ? text_of(special_.at(key)) : std::nullopt;
  if (!text) return std::nullopt;
  if (const auto found = ids_.find(*text); found != ids_.end()) return found->second;
  if (fs::is_regular_file(folder_ / kSentencePieceName)) {
    const Tokenizer pieces(folder_ / kSentencePieceName);
    for (int32_t id = 0; id < pieces.vocab_size(); ++id)
      if (pieces.piece(id) == *text) return id;
  }
  log_warning(concat(folder_.string(), ": ", key, " is ", *text,
                     ", but no file tells its id; config.json gets none"));
  return std::nullopt;
}

void ForeignTokenizer::tell_ids(int64_t vocab_size, ExportDetails& details) const {
  for (const auto& [token, id] : ids_)
    expect_input(id < vocab_size, concat(folder_.string(), ": the token ", json(token).dump(), " has the id ",
                                         id, ", the model only ", vocab_size, " embeddings"));
  const auto eos = special_id("eos_token");
  expect_input(!eos || !details.eos_id || *eos == *details.eos_id,
               concat(folder_.string(), ": the tokenizer's EOS is ", eos.value_or(-1), ", the model's ",
                      details.eos_id.value_or(-1)));
  if (eos) details.eos_id = eos;
  details.bos_id = special_id("bos_token");
  details.pad_id = special_id("pad_token");
}

std::string ForeignTokenizer::hash() const {
  const fs::path model = folder_ / kSentencePieceName;
  return fs::is_regular_file(model) ? hash_file(model) : "";
}

}  // namespace transxssm
