// Questions that a model answers by the likelihood of given continuations, and the files they come in.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace transxssm {

struct Question {
  std::string context;
  std::vector<std::string> continuations;  // one: how likely is it; several: which is the likeliest
  int64_t label = 0;                       // of the right one
  std::vector<double> characters, bytes;   // of each continuation without its delimiter, for acc_norm
  std::string where;                       // file and line, for messages
};

// Layouts of a line, docs/eval.md.
enum class QuestionFormat { requests, hellaswag, arc, piqa, lambada };

// The first `limit` of a JSONL file (plain, .gz or .zst); 0 for all. Throws InputError that names file and
// line, also where some lines have one continuation and others have several.
std::vector<Question> read_questions(const std::filesystem::path& file, QuestionFormat format, int64_t limit);

}  // namespace transxssm
