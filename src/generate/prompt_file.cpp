#include "generate/prompt_file.h"

#include <charconv>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/check.h"

namespace transxssm {
namespace {

using Json = nlohmann::json;

Prompt from_json(const std::string& line, const std::string& where) {
  const char* const kWanted =
      R"(; a line is {"prompt": "text"} or {"ids": [1, 2]}, with "seed": 3 if wanted)";
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  expect_input(!json.is_discarded() && json.is_object(), concat(where, ": not a JSON object", kWanted));
  Prompt prompt;
  prompt.where = where;
  for (const auto& [key, value] : json.items()) {
    if (key == "prompt" && value.is_string()) {
      prompt.text = value.get<std::string>();
      expect_input(!prompt.text->empty(), concat(where, ": the prompt is empty"));
    } else if (key == "ids" && value.is_array() && !value.empty()) {
      for (const Json& id : value) {
        const bool fits = id.is_number_unsigned() && std::in_range<int64_t>(id.get<uint64_t>());
        expect_input(fits, concat(where, ": ids has ", id.dump(), ", which is no token id"));
        prompt.ids.push_back(id.get<int64_t>());
      }
    } else if (key == "seed" && value.is_number_unsigned()) {
      prompt.seed = value.get<uint64_t>();
    } else {
      throw InputError(concat(where, ": \"", key, "\" is unknown or can't be ", value.dump(), kWanted));
    }
  }
  expect_input(prompt.text.has_value() != !prompt.ids.empty(),
               concat(where, ": needs one of prompt and ids", kWanted));
  return prompt;
}

}  // namespace

std::vector<Prompt> read_prompts(std::istream& in, const std::string& name, PromptFormat format) {
  std::vector<Prompt> prompts;
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    const std::string where = concat(name, ":", number);
    expect_input(!line.empty(), concat(where, ": the line is empty; each line is a prompt"));
    if (format == PromptFormat::jsonl)
      prompts.push_back(from_json(line, where));
    else
      prompts.push_back({line, {}, {}, where});
  }
  expect_input(!in.bad(), concat(name, ": can't be read"));
  expect_input(!prompts.empty(), concat(name, ": holds no prompt"));
  return prompts;
}

std::vector<int64_t> parse_ids(const std::string& text, const std::string& where) {
  std::vector<int64_t> ids;
  const char* const kBetween = " ,\t\n";
  for (size_t at = text.find_first_not_of(kBetween); at != std::string::npos;) {
    const size_t end = std::min(text.find_first_of(kBetween, at), text.size());
    const std::string word = text.substr(at, end - at);
    int64_t id = 0;
    const auto [rest, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    expect_input(
        error == std::errc() && rest == word.data() + word.size(),
        concat(where, ": '", word, "' is no token id; ids are whole numbers between spaces or commas"));
    ids.push_back(id);
    at = text.find_first_not_of(kBetween, end);
  }
  expect_input(!ids.empty(), concat(where, " has no token ids"));
  return ids;
}

}  // namespace transxssm
