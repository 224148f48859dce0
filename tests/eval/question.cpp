// Files of questions: the layouts as they are distributed, and what is wrong with a line.
#include "eval/question.h"

#include "core/atomic_file.h"
#include "support/catch.h"
#include "support/require_error.h"
#include "support/temp_folder.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

Question only(const std::string& line, QuestionFormat format) {
  const TempFolder folder;
  write_file_atomically(folder / "f.jsonl", line + "\n");
  const auto questions = read_questions(folder / "f.jsonl", format, 0);
  REQUIRE(questions.size() == 1);
  return questions.front();
}

void refused(const std::string& lines, const std::string& says) {
  const TempFolder folder;
  write_file_atomically(folder / "f.jsonl", lines);
  require_error([&] { read_questions(folder / "f.jsonl", QuestionFormat::requests, 0); }, says);
}

using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("questions: requests, with the delimiter left out of lengths") {
  const auto usual =
      only(R"({"context": "c", "continuations": [" ab", " é"], "label": 1})", QuestionFormat::requests);
  REQUIRE(usual.continuations == Texts{" ab", " é"});
  REQUIRE(usual.characters == std::vector<double>{2, 1});
  REQUIRE(usual.bytes == std::vector<double>{2, 2});
  REQUIRE(usual.label == 1);
  const auto none =
      only(R"({"context": "c", "continuations": ["ab", " d"], "label": 0})", QuestionFormat::requests);
  REQUIRE(none.characters == std::vector<double>{2, 2});
  const auto own = only(R"({"context": "c", "continuations": ["\n\nab"], "label": 0, "delimiter": "\n\n"})",
                        QuestionFormat::requests);
  REQUIRE(own.characters == std::vector<double>{2});
}

TEST_CASE("questions: one delimiter for a file, said or seen") {
  const TempFolder folder;
  const std::string bare = R"({"context": "c", "continuations": ["ab", " d"], "label": 0})";
  const std::string spaced =
      R"({"context": "c", "continuations": [" a", " b"], "label": 0, "delimiter": ""})";
  write_file_atomically(folder / "f.jsonl", bare + "\n" + spaced + "\n");
  const auto questions = read_questions(folder / "f.jsonl", QuestionFormat::requests, 0);
  REQUIRE(questions[1].characters == std::vector<double>{2, 2});
  // Of a single continuation no length counts.
  write_file_atomically(folder / "one.jsonl", R"({"context": "c", "continuations": [" a"], "label": 0})"
                                              "\n"
                                              R"({"context": "", "continuations": ["a"], "label": 0})");
  REQUIRE(read_questions(folder / "one.jsonl", QuestionFormat::requests, 0).size() == 2);
}

TEST_CASE("questions: HellaSwag") {
  const auto q = only(
      R"({"activity_label": "Baking [x] bread", "ctx_a": "A cook waits.", "ctx_b": "the Cook", "label": 1,)"
      R"( "endings": ["sings [title] Then [step] stops.", " bakes  it. ", "c", "d"]})",
      QuestionFormat::hellaswag);
  REQUIRE(q.context == "Baking bread: A cook waits. The cook");
  REQUIRE(q.continuations == Texts{" sings. Then stops.", " bakes it.", " c", " d"});
  REQUIRE(q.label == 1);
}

TEST_CASE("questions: ARC in both layouts") {
  const auto ai2 = only(
      R"({"question": {"stem": "Why?", "choices": [{"text": "x", "label": "1"}, {"text": "y", "label": "2"}]},)"
      R"( "answerKey": "2"})",
      QuestionFormat::arc);
  const auto hub =
      only(R"({"question": "Why?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"})",
           QuestionFormat::arc);
  for (const Question& q : {ai2, hub}) {
    REQUIRE(q.context == "Question: Why?\nAnswer:");
    REQUIRE(q.continuations == Texts{" x", " y"});
    REQUIRE(q.label == 1);
  }
}

TEST_CASE("questions: PIQA with labels in the line or beside it") {
  const std::string line = R"({"goal": "Open it", "sol1": "push", "sol2": "pull")";
  REQUIRE(only(line + R"(, "label": 1})", QuestionFormat::piqa).label == 1);
  const TempFolder folder;
  write_file_atomically(folder / "valid.jsonl", line + "}\n" + line + "}\n");
  require_error([&] { read_questions(folder / "valid.jsonl", QuestionFormat::piqa, 0); }, "no \"label\"");
  write_file_atomically(folder / "valid-labels.lst", "1\n0\n");
  const auto questions = read_questions(folder / "valid.jsonl", QuestionFormat::piqa, 0);
  REQUIRE(questions[0].label == 1);
  REQUIRE(questions[1].label == 0);
  REQUIRE(questions[0].context == "Question: Open it\nAnswer:");
  REQUIRE(read_questions(folder / "valid.jsonl", QuestionFormat::piqa, 1).size() == 1);
  write_file_atomically(folder / "valid-labels.lst", "1\n");
  require_error([&] { read_questions(folder / "valid.jsonl", QuestionFormat::piqa, 0); }, "only 1 lines");
}

TEST_CASE("questions: LAMBADA asks for the last word") {
  const auto q = only(R"({"text": "He said his name"})", QuestionFormat::lambada);
  REQUIRE(q.context == "He said his");
  REQUIRE(q.continuations == Texts{" name"});
}

TEST_CASE("questions: bad lines are named") {
  const std::string good = R"({"context": "c", "continuations": [" a", " b"], "label": 1})";
  refused(good + "\n{\"context\": \n", "f.jsonl:2: is not JSON");
  refused("[1]\n", "f.jsonl:1: is not a JSON object");
  refused(good + "\n\n" + R"({"context": "c", "continuations": [" a", " b"], "label": 2})",
          "f.jsonl:3: label 2 is out of range; of 2 continuations it is 0 to 1");
  refused(R"({"context": "c", "continuations": [" a"], "label": -1})",
          "label -1 is out of range; of 1 continuation it is 0");
  refused(R"({"context": "c", "continuations": [], "label": 0})", "\"continuations\" is []");
  refused(R"({"context": "c", "continuations": [" a", ""], "label": 0})", "a continuation is empty");
  refused(R"({"context": "c", "continuations": [" a", 3], "label": 0})", "not a string");
  refused(R"({"context": "c", "continuations": [" a"]})", "has no \"label\"");
  refused(R"({"contxt": "c", "continuations": [" a"], "label": 0})", "unknown key \"contxt\"");
  refused(good + "\n" + R"({"context": "c", "continuations": [" a"], "label": 0})", "put them in two files");
  const std::string bare = R"({"context": "c", "continuations": ["a", " b"], "label": 1)";
  refused(good + "\n" + bare + "}",
          "f.jsonl:2: continuations start with the delimiter \"\", those of the lines before with \" \"");
  refused(bare + "}\n" + good, "f.jsonl:2: continuations start with the delimiter \" \", those of the lines");
  refused(bare + R"(, "delimiter": " "})", "f.jsonl:1: a continuation does not start with \" \"");
  refused("\xFF\n", "f.jsonl:1: is not valid UTF-8");
  refused("\n", "has no line");
  require_error([] { read_questions("/nowhere.jsonl", QuestionFormat::arc, 0); }, "no such file");
}
