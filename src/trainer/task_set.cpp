#include "trainer/task_set.h"

#include <utility>

#include "trainer/scorer.h"

namespace transxssm {

TaskSet make_task_set(std::string name, std::vector<Question> questions, const Tokenizer& tokenizer,
                      int64_t max_length) {
  TaskSet set{std::move(name), std::move(questions), {}};
  for (const Question& question : set.questions)
    for (const std::string& continuation : question.continuations)
      set.texts.push_back(encode_pair(tokenizer, question.context, continuation, max_length, question.where));
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

std::optional<std::vector<Metric>> evaluate_task(const HybridModel& model, const TaskSet& set,
                                                 int64_t batch_tokens,
                                                 const std::function<bool(size_t)>& go_on) {
  const auto scores = score_continuations(model, set.texts, batch_tokens, go_on);
  if (scores.empty()) return std::nullopt;
  return task_metrics(set.questions, scores);
}

}  // namespace transxssm
