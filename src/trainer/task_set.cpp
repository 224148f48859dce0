#include "trainer/task_set.h"

#include <map>
#include <utility>

#include <ATen/Parallel.h>

#include "core/check.h"
#include "trainer/scorer.h"

namespace transxssm {
namespace {

// By question. On all cores: one encodes about a million tokens a second, an H100 scores half as many with a
// model of 320 M parameters.
std::vector<std::vector<ScoredText>> encode_all(const std::vector<Question>& questions,
                                                const Tokenizer& tokenizer, int64_t max_length) {
  constexpr int64_t kGrain = 16;
  std::vector<std::vector<ScoredText>> texts(questions.size());
  std::vector<std::string> complaints(questions.size());
  at::parallel_for(0, static_cast<int64_t>(questions.size()), kGrain, [&](int64_t begin, int64_t end) {
    for (auto q = static_cast<size_t>(begin); q < static_cast<size_t>(end); ++q) try {
        texts[q] = encode_question(tokenizer, questions[q], max_length);
      } catch (const InputError& error) {
        complaints[q] = error.what();
      }
  });
  for (const std::string& complaint : complaints) expect_input(complaint.empty(), complaint);
  return texts;
}

}  // namespace

TaskSet make_task_set(std::string name, std::vector<Question> questions, const Tokenizer& tokenizer,
                      int64_t max_length) {
  TaskSet set{std::move(name), std::move(questions), {}, {}};
  std::map<ScoredText, size_t> places;
  for (const std::vector<ScoredText>& of_question : encode_all(set.questions, tokenizer, max_length))
    for (const ScoredText& text : of_question) {
      const auto [at, added] = places.emplace(text, set.texts.size());
      if (added) set.texts.push_back(text);
      set.text_of.push_back(at->second);
    }
  return set;
}

std::vector<TaskSet> load_task_sets(const DataConfig& config, int64_t max_length) {
  if (config.tasks.empty()) return {};
  const Tokenizer tokenizer(config.tokenizer);
  std::vector<TaskSet> sets;
  for (const TaskSource& source : config.tasks)
    sets.push_back(make_task_set(source.name,
                                 read_questions(source.path, QuestionFormat::requests, /*limit=*/0),
                                 tokenizer, max_length));
  return sets;
}

std::optional<TaskResult> evaluate_task(const HybridModel& model, const TaskSet& set, int64_t batch_tokens,
                                        const Mesh& mesh, const std::function<bool(size_t)>& go_on) {
  const auto of_text = score_continuations(model, set.texts, batch_tokens, mesh, go_on);
  if (of_text.empty()) return std::nullopt;
  std::vector<ContinuationScore> scores;
  for (const size_t text : set.text_of) scores.push_back(of_text[text]);
  return TaskResult{task_metrics(set.questions, scores), first_not_finite(set.questions, scores)};
}

}  // namespace transxssm
