// Somebody else's tokenizer: which files belong to it, and the ids of its special tokens.
#include "export/foreign_tokenizer.h"

#include <filesystem>
#include <string>

#include "core/atomic_file.h"
#include "support/catch.h"
#include "support/require_error.h"
#include "support/temp_folder.h"

using namespace transxssm;
using namespace transxssm::test;
namespace fs = std::filesystem;

namespace {

using Files = std::vector<std::pair<std::string, std::string>>;

void write_all(const fs::path& folder, const Files& files) {
  for (const auto& [name, content] : files) {
    make_folders((folder / name).parent_path());
    write_file_atomically(folder / name, content);
  }
}

ExportDetails ids_of(const Files& files) {
  const TempFolder folder;
  write_all(folder.path(), files);
  ExportDetails details;
  ForeignTokenizer(folder.path()).tell_ids(1000, details);
  return details;
}

const std::pair<std::string, std::string> kNames{
    "tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": "</s>", "pad_token": null})"};

}  // namespace

TEST_CASE("foreign tokenizer: every file that is not the model's is copied unchanged") {
  const TempFolder folder;
  const Files own = {{"additional_chat_templates/tool.jinja", "{{ 1 }}"},
                     {"chat_template.jinja", "{{ 2 }}"},
                     {"helper.py", "x = 1\n"},
                     {"some.tiktoken", std::string("a\0b", 3)},
                     {"tokenization_some.py", "y = 2\n"},
                     {"tokenizer_config.json", "{}"},
                     {"vocab.json", "{}"}};
  write_all(folder / "from", own);
  write_all(folder / "from", {{".gitattributes", ""},
                              {"README.md", ""},
                              {"config.json", "{}"},
                              {"configuration_some.py", ""},
                              {"generation_config.json", "{}"},
                              {"mixers_transxssm.py", ""},
                              {"model-00001-of-00002.safetensors", ""},
                              {"model.safetensors.index.json", "{}"},
                              {"modeling_some.py", ""},
                              {"parity.json", "{}"},
                              {"pytorch_model.bin", ""},
                              {"onnx/vocab.json", "{}"}});
  const ForeignTokenizer tokenizer(folder / "from");
  tokenizer.copy_to(folder / "to");
  std::vector<fs::path> names;
  for (const auto& [name, content] : own) {
    names.push_back(name);
    REQUIRE(read_file(folder / "to" / name) == content);
  }
  REQUIRE(tokenizer.files() == names);
}

TEST_CASE("foreign tokenizer: ids from every place that has them") {
  const Files places = {
      {"tokenizer.json", R"({"added_tokens": [{"id": 5, "content": "<s>"}, {"id": 6, "content": "</s>"}]})"},
      {"tokenizer.json", R"({"model": {"vocab": {"<s>": 5, "</s>": 6}}})"},
      {"tokenizer.json",
       R"({"model": {"vocab": [["a", 0], ["b", 0], ["c", 0], ["d", 0], ["e", 0], ["<s>", -1.5], ["</s>", 0]]}})"},
      {"added_tokens.json", R"({"<s>": 5, "</s>": 6})"},
      {"vocab.json", R"({"<s>": 5, "</s>": 6})"},
      {"vocab.txt", "a\nb\nc\nd\ne\n<s>\n</s>\n"},
  };
  for (const auto& place : places) {
    CAPTURE(place.first, place.second);
    const ExportDetails details = ids_of({kNames, place});
    REQUIRE(details.bos_id == 5);
    REQUIRE(details.eos_id == 6);
    REQUIRE_FALSE(details.pad_id.has_value());
  }
  // Those of tokenizer_config.json come first.
  const ExportDetails details = ids_of({{"tokenizer_config.json", R"({
      "added_tokens_decoder": {"8": {"content": "<s>"}}, "bos_token": {"content": "<s>"}})"},
                                        {"vocab.json", R"({"<s>": 5})"}});
  REQUIRE(details.bos_id == 8);
  REQUIRE_FALSE(details.eos_id.has_value());
  // Named, but without an id.
  REQUIRE_FALSE(ids_of({kNames}).bos_id.has_value());
}

TEST_CASE("foreign tokenizer: bad folders") {
  const TempFolder folder;
  require_error([&] { ForeignTokenizer tokenizer(folder.path()); }, "has no tokenizer.json");
  write_file_atomically(folder / "tokenizer.json", "{");
  require_error([&] { ForeignTokenizer tokenizer(folder.path()); }, "tokenizer.json: is not JSON");
  for (const std::string name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}) {
    write_all(folder.path(), {{"tokenizer.json", "{}"}, {name, "[]"}});
    require_error([&] { ForeignTokenizer tokenizer(folder.path()); }, name + ": is no JSON object");
    fs::remove(folder / name);
  }
}
