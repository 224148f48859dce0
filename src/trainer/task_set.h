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
#include "parallel/mesh.h"

namespace transxssm {

struct TaskSet {
  std::string name;
  std::vector<Question> questions;
  std::vector<ScoredText> texts;  // each once: equal ones get one score, whatever shares their batches
  std::vector<size_t> text_of;    // of all continuations, question after question
};

TaskSet make_task_set(std::string name, std::vector<Question> questions, const Tokenizer& tokenizer,
                      int64_t max_length);

// Those of data.tasks.
std::vector<TaskSet> load_task_sets(const DataConfig& config, int64_t max_length);

struct TaskResult {
  std::vector<Metric> metrics;
  std::optional<size_t> not_finite;  // the first question for which the model's logits are not finite
};

// The ranks share the work, all get the result. After each round of batches `go_on` is asked on all of them,
// with the number of texts in it; when it says no, nothing is returned.
std::optional<TaskResult> evaluate_task(const HybridModel& model, const TaskSet& set, int64_t batch_tokens,
                                        const Mesh& mesh, const std::function<bool(size_t)>& go_on);

}  // namespace transxssm
