#include "eval/scoring.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/check.h"
#include "eval/python_text.h"

namespace transxssm {
namespace {

// The first of equals, as numpy's argmax.
int64_t argmax(const std::vector<double>& values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

}  // namespace

ScoredText encode_pair(const Tokenizer& tokenizer, const std::string& context,
                       const std::string& continuation, int64_t max_length, const std::string& where) {
  const size_t kept = rstripped_size(context);
  ScoredText out{{tokenizer.bos_id()}, 0};
  try {
    tokenizer.encode(context + continuation, out.tokens);
    out.scored_from = 1 + static_cast<int64_t>(tokenizer.encode(context.substr(0, kept)).size());
  } catch (const InputError& error) {
    throw InputError(concat(where, ": ", error.what()));
  }
  const auto total = static_cast<int64_t>(out.tokens.size());
  expect_input(out.scored_from < total, concat(where, ": a continuation adds no token to its context"));
  expect_input(total - out.scored_from <= max_length,
               concat(where, ": a continuation has ", total - out.scored_from,
                      " tokens, more than the longest text of ", max_length,
                      " (--max-length of eval, train.seq_len of a training run)"));
  const int64_t left_out = std::max<int64_t>(0, total - (max_length + 1));
  out.tokens.erase(out.tokens.begin(), out.tokens.begin() + left_out);
  out.scored_from -= left_out;
  return out;
}

Metric mean_metric(const std::string& name, const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  Metric out{name, std::accumulate(values.begin(), values.end(), 0.0) / n, std::nullopt};
  if (values.size() < 2) return out;
  double squares = 0;
  for (const double value : values) squares += (value - out.value) * (value - out.value);
  out.stderr_of_value = std::sqrt(squares / (n - 1) / n);
  return out;
}

std::vector<Metric> task_metrics(const std::vector<Question>& questions,
                                 const std::vector<ContinuationScore>& scores) {
  std::vector<double> acc, acc_norm, acc_bytes, log_likelihoods;
  size_t next = 0;
  for (const Question& question : questions) {
    if (question.continuations.size() == 1) {
      acc.push_back(scores[next].greedy);
      log_likelihoods.push_back(scores[next++].log_likelihood);
      continue;
    }
    std::vector<double> plain, by_character, by_byte;
    for (size_t i = 0; i < question.continuations.size(); ++i) {
      plain.push_back(scores[next++].log_likelihood);
      by_character.push_back(plain.back() / question.characters[i]);
      by_byte.push_back(plain.back() / question.bytes[i]);
    }
    acc.push_back(argmax(plain) == question.label);
    acc_norm.push_back(argmax(by_character) == question.label);
    acc_bytes.push_back(argmax(by_byte) == question.label);
  }
  if (log_likelihoods.empty())
    return {mean_metric("acc", acc), mean_metric("acc_norm", acc_norm), mean_metric("acc_bytes", acc_bytes)};
  // The error of exp(−mean) to first order.
  Metric perplexity = mean_metric("perplexity", log_likelihoods);
  perplexity.value = std::exp(-perplexity.value);
  if (perplexity.stderr_of_value) *perplexity.stderr_of_value *= perplexity.value;
  return {mean_metric("acc", acc), perplexity};
}

}  // namespace transxssm
