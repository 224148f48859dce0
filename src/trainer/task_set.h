// Questions as tokens, ready for a model.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "config/data_config.h"
#include "data/tokenizer.h"
#include "eval/question.h"
#include "eval/scoring.h"
#include "model/hybrid_model.h"

namespace transxssm {

struct TaskSet {
  std::string name;
  std::vector<Question> questions;
  std::vector<ScoredText> texts;  // of all continuations, question after question
};

TaskSet make_task_set(std::string name, std::vector<Question> questions, const Tokenizer& tokenizer,
                      int64_t max_length);

// Those of data.tasks.
std::vector<TaskSet> load_task_sets(const DataConfig& config, int64_t max_length);

// After each batch `go_on` is asked, with the number of continuations in it; when it says no, nothing is
// returned.
std::optional<std::vector<Metric>> evaluate_task(const HybridModel& model, const TaskSet& set,
                                                 int64_t batch_tokens,
                                                 const std::function<bool(size_t)>& go_on);

}  // namespace transxssm
