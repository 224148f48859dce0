// Prompts from a file or standard input.
#pragma once

#include <cstdint>
#include <istream>
#include <optional>
#include <string>
#include <vector>

namespace transxssm {

// Text, or token ids that are taken as they are.
struct Prompt {
  std::optional<std::string> text;
  std::vector<int64_t> ids;
  std::optional<uint64_t> seed;
  std::string where;  // "prompts.jsonl:3", for messages
};

enum class PromptFormat {
  lines,  // a text a line
  jsonl,  // an object a line: {"prompt": text} or {"ids": [1, 2]}, and "seed" if wanted
};

// Throws InputError, with the line, on an empty prompt, malformed JSON, or an unknown key; and when there is
// no prompt at all.
std::vector<Prompt> read_prompts(std::istream& in, const std::string& name, PromptFormat format);

// "1 15043 3186" or "1,15043,3186". Throws InputError, naming `where`.
std::vector<int64_t> parse_ids(const std::string& text, const std::string& where);

}  // namespace transxssm
