// From log-likelihoods to what a task reports, as lm-evaluation-harness does (docs/eval.md).
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "eval/question.h"

namespace transxssm {

// Tokens whose likelihood given those before is asked for: from `scored_from` on.
struct ScoredText {
  std::vector<int32_t> tokens;
  int64_t scored_from = 1;

  auto operator<=>(const ScoredText&) const = default;
};

// For each continuation BOS, context and continuation. White space at the end of the context goes to the
// continuation; then both are encoded together, and what lies beyond the context's own number of tokens is
// the continuation. Of more than max_length + 1 tokens the first are left out. Throws InputError starting
// with the question's place when no token, or more than max_length, are left to score. May be called from
// several threads at a time.
std::vector<ScoredText> encode_question(const Tokenizer& tokenizer, const Question& question,
                                        int64_t max_length);

// What is wrong where a log-likelihood is not finite.
inline constexpr const char* kNotFinite =
    "the model's logits are not finite here: its weights are damaged or its activations overflow";

struct ContinuationScore {
  double log_likelihood = 0;
  bool greedy = false;  // every token of it is the most likely one
};

struct Metric {
  std::string name;
  double value = 0;
  std::optional<double> stderr_of_value;  // none for a single question
};

// `scores` has those of all continuations, question after question. Several continuations: acc, acc_norm,
// acc_bytes; one: acc (greedy) and perplexity. NaN where a log-likelihood is not finite.
std::vector<Metric> task_metrics(const std::vector<Question>& questions,
                                 const std::vector<ContinuationScore>& scores);

// The first question with a log-likelihood that is not finite.
std::optional<size_t> first_not_finite(const std::vector<Question>& questions,
                                       const std::vector<ContinuationScore>& scores);

// Mean, and standard error by the sample's deviation.
Metric mean_metric(const std::string& name, const std::vector<double>& values);

}  // namespace transxssm
