#include "eval/question.h"

#include <algorithm>
#include <fstream>
#include <optional>

#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/counted.h"
#include "data/text_reader.h"
#include "data/utf8.h"
#include "eval/python_text.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::json;

// One line of a file, with messages that name it.
class Line {
 public:
  Line(const std::string& text, std::string where) : where_(std::move(where)) {
    expect_input(find_invalid_utf8(text) == std::string::npos, concat(where_, ": is not valid UTF-8"));
    json_ = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    expect_input(!json_.is_discarded(), concat(where_, ": is not JSON"));
    expect_input(json_.is_object(), concat(where_, ": is not a JSON object"));
  }

  const std::string& where() const { return where_; }
  const Json& tree() const { return json_; }
  bool has(const char* key) const { return json_.contains(key); }

  std::string text(const char* key) const { return text_of(field(json_, key), key); }
  std::vector<std::string> texts(const char* key) const { return texts_of(field(json_, key), key); }

  const Json& field(const Json& object, const char* key) const {
    expect_input(object.is_object() && object.contains(key), concat(where_, ": has no \"", key, "\""));
    return object.at(key);
  }
  std::string text_of(const Json& value, const char* key) const {
    expect_input(value.is_string(), concat(where_, ": \"", key, "\" is ", shown(value), ", not a string"));
    return value.get<std::string>();
  }
  std::vector<std::string> texts_of(const Json& value, const char* key) const {
    expect_input(value.is_array() && !value.empty(),
                 concat(where_, ": \"", key, "\" is ", shown(value), ", not a list of strings"));
    std::vector<std::string> out;
    for (const Json& element : value) out.push_back(text_of(element, key));
    return out;
  }
  // A whole number, or one written as a string as some copies of the files have it.
  int64_t label(const Json& value, size_t choices) const {
    const std::string digits = value.is_string() ? value.get<std::string>() : value.dump();
    const bool whole =
        !digits.empty() && digits.size() < 10 && digits.find_first_not_of("0123456789") == std::string::npos;
    expect_input(
        whole && std::stoull(digits) < choices,
        concat(where_, ": label ", shown(value), " is out of range; of ", counted(choices, "continuation"),
               " it is ", choices == 1 ? "" : "0 to ", choices - 1));
    return std::stoll(digits);
  }

 private:
  static std::string shown(const Json& value) {
    const std::string text = value.dump();
    return text.size() > 60 ? text.substr(0, utf8_border(text, 57)) + "..." : text;
  }

  Json json_;
  std::string where_;
};

// Continuations are `delimiter` and a choice each.
Question with_choices(const Line& line, std::string context, const std::vector<std::string>& choices,
                      int64_t label, const std::string& delimiter) {
  Question question{std::move(context), {}, label, {}, {}, line.where()};
  for (const std::string& choice : choices) {
    expect_input(!choice.empty(), concat(line.where(), ": a continuation is empty"));
    question.continuations.push_back(delimiter + choice);
    question.characters.push_back(static_cast<double>(python_length(choice)));
    question.bytes.push_back(static_cast<double>(choice.size()));
  }
  return question;
}

// What all continuations of a line start with: what the line says, or a space, or nothing.
std::string delimiter_of(const Line& line, const std::vector<std::string>& continuations) {
  const auto all_start_with = [&](const std::string& delimiter) {
    return std::all_of(continuations.begin(), continuations.end(),
                       [&](const std::string& text) { return text.starts_with(delimiter); });
  };
  if (!line.has("delimiter")) return all_start_with(" ") ? " " : "";
  const std::string delimiter = line.text("delimiter");
  expect_input(all_start_with(delimiter), concat(line.where(), ": a continuation does not start with ",
                                                 Json(delimiter).dump(), ", the line's delimiter"));
  return delimiter;
}

// `of_file`: the delimiter of the lines before, none at the first. acc_norm leaves it out of lengths, so that
// one file has one; where there is a single continuation no length counts.
Question from_request(const Line& line, std::optional<std::string>& of_file) {
  for (const auto& [key, value] : line.tree().items())
    expect_input(key == "context" || key == "continuations" || key == "label" || key == "delimiter",
                 concat(line.where(), ": unknown key \"", key,
                        "\"; a line has context, continuations, label and, if wanted, delimiter"));
  std::vector<std::string> choices = line.texts("continuations");
  const int64_t label = line.label(line.field(line.tree(), "label"), choices.size());
  const std::string delimiter = delimiter_of(line, choices);
  if (!of_file) of_file = delimiter;
  expect_input(choices.size() == 1 || delimiter == *of_file,
               concat(line.where(), ": continuations start with the delimiter ", Json(delimiter).dump(),
                      ", those of the lines before with ", Json(*of_file).dump(),
                      "; say which on every line, as in \"delimiter\": \"\""));
  for (std::string& choice : choices) choice.erase(0, delimiter.size());
  return with_choices(line, line.text("context"), choices, label, delimiter);
}

// What the harness takes out of HellaSwag's text: marks that its WikiHow half kept.
std::string hellaswag_text(const std::string& raw) {
  const auto replace = [](std::string text, const std::string& from, const std::string& to) {
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
      text.replace(at, from.size(), to);
    return text;
  };
  std::string text = replace(python_strip(raw), " [title]", ". ");
  for (size_t open = 0; (open = text.find('[', open)) != std::string::npos;) {
    const size_t end = text.find_first_of("]\n", open);
    if (end != std::string::npos && text[end] == ']')
      text.erase(open, end - open + 1);
    else
      ++open;
  }
  return replace(text, "  ", " ");
}

Question from_hellaswag(const Line& line) {
  const std::string context = line.text("ctx_a") + " " + python_capitalize(line.text("ctx_b"));
  std::vector<std::string> endings;
  for (const std::string& ending : line.texts("endings")) endings.push_back(hellaswag_text(ending));
  const int64_t label = line.label(line.field(line.tree(), "label"), endings.size());
  return with_choices(line, hellaswag_text(line.text("activity_label") + ": " + context), endings, label,
                      " ");
}

// {"question": {"stem", "choices": [{"text", "label"}]}} as AI2 publishes it, or {"question", "choices":
// {"text": [], "label": []}} as the Hugging Face hub has it.
Question from_arc(const Line& line) {
  const Json& question = line.field(line.tree(), "question");
  std::vector<std::string> choices, names;
  std::string stem;
  if (question.is_object()) {
    stem = line.text_of(line.field(question, "stem"), "stem");
    const Json& listed = line.field(question, "choices");
    expect_input(listed.is_array(), concat(line.where(), ": \"choices\" is not a list"));
    for (const Json& choice : listed) {
      choices.push_back(line.text_of(line.field(choice, "text"), "text"));
      names.push_back(line.text_of(line.field(choice, "label"), "label"));
    }
  } else {
    stem = line.text("question");
    const Json& listed = line.field(line.tree(), "choices");
    choices = line.texts_of(line.field(listed, "text"), "text");
    names = line.texts_of(line.field(listed, "label"), "label");
  }
  const std::string answer = line.text("answerKey");
  for (size_t i = 0; i < choices.size() && i < names.size(); ++i)
    if (names[i] == answer)
      return with_choices(line, "Question: " + stem + "\nAnswer:", choices, static_cast<int64_t>(i), " ");
  throw InputError(concat(line.where(), ": answerKey \"", answer, "\" is the label of no choice"));
}

Question from_piqa(const Line& line, const std::optional<std::string>& label) {
  const Json value = label ? Json(*label) : line.field(line.tree(), "label");
  return with_choices(line,
                      "Question: " + line.text("goal") + "\nAnswer:", {line.text("sol1"), line.text("sol2")},
                      line.label(value, 2), " ");
}

Question from_lambada(const Line& line) {
  const std::string text = line.text("text");
  const size_t space = text.rfind(' ');
  expect_input(space != std::string::npos && space + 1 < text.size(),
               concat(line.where(), ": the text has no last word after a space"));
  return with_choices(line, text.substr(0, space), {text.substr(space + 1)}, 0, " ");
}

// PIQA's right answers come in a file of their own: valid.jsonl and valid-labels.lst.
std::optional<std::vector<std::string>> piqa_labels(const fs::path& file) {
  const fs::path labels = file.parent_path() / (file.stem().string() + "-labels.lst");
  std::ifstream in(labels);
  if (!in.is_open()) return std::nullopt;
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    if (line.ends_with('\r')) line.pop_back();
    lines.push_back(line);
  }
  return lines;
}

// Calls `visit` with each line that is not blank, until it returns false.
template <class Visit>
void for_each_line(const fs::path& file, Visit&& visit) {
  expect_input(fs::exists(file), concat(file.string(), ": there is no such file"));
  expect_input(!fs::is_directory(file),
               concat(file.string(), ": is a folder; expected a file of JSON lines"));
  auto sources = find_text_sources({file.string()}, TextFormat::jsonl);
  BlockReader reader(std::move(sources));
  while (auto block = reader.next()) {
    int64_t number = block->first_line;
    if (block->error) throw InputError(concat(file.string(), ":", number, ": ", *block->error));
    for (size_t begin = 0; begin < block->bytes.size(); ++number) {
      const size_t end = std::min(block->bytes.find('\n', begin), block->bytes.size());
      const std::string line = block->bytes.substr(begin, end - begin);
      begin = end + 1;
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      if (!visit(line, concat(file.string(), ":", number))) return;
    }
  }
}

}  // namespace

std::vector<Question> read_questions(const fs::path& file, QuestionFormat format, int64_t limit) {
  std::vector<Question> questions;
  std::optional<std::string> delimiter;  // of requests
  const auto labels = format == QuestionFormat::piqa ? piqa_labels(file) : std::nullopt;
  for_each_line(file, [&](const std::string& text, const std::string& where) {
    const Line line(text, where);
    switch (format) {
      case QuestionFormat::requests:
        questions.push_back(from_request(line, delimiter));
        break;
      case QuestionFormat::hellaswag:
        questions.push_back(from_hellaswag(line));
        break;
      case QuestionFormat::arc:
        questions.push_back(from_arc(line));
        break;
      case QuestionFormat::piqa:
        expect_input(
            !labels || questions.size() < labels->size(),
            concat(where, ": the file of labels beside it has only ", labels ? labels->size() : 0, " lines"));
        questions.push_back(
            from_piqa(line, labels ? std::optional((*labels)[questions.size()]) : std::nullopt));
        break;
      case QuestionFormat::lambada:
        questions.push_back(from_lambada(line));
        break;
    }
    expect_input(
        (questions.front().continuations.size() == 1) == (questions.back().continuations.size() == 1),
        concat(where, ": one continuation and several are scored differently; put them in two files"));
    return limit == 0 || static_cast<int64_t>(questions.size()) < limit;
  });
  expect_input(!questions.empty(), concat(file.string(), ": has no line"));
  return questions;
}

}  // namespace transxssm
