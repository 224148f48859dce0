#include "eval/scoring.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/check.h"
#include "eval/python_text.h"

namespace transxssm {
namespace {

// The first of equals, as numpy's argmax.
int64_t argmax(const std::vector<double>& values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

double hit(bool right, const std::vector<double>& log_likelihoods) {
  const bool known = std::all_of(log_likelihoods.begin(), log_likelihoods.end(),
                                 [](double value) { return std::isfinite(value); });
  return known ? right : std::numeric_limits<double>::quiet_NaN();
}

void cut(ScoredText& text, int64_t max_length, const std::string& where) {
  const auto total = static_cast<int64_t>(text.tokens.size());
  expect_input(text.scored_from < total, concat(where, ": a continuation adds no token to its context"));
  expect_input(total - text.scored_from <= max_length,
               concat(where, ": a continuation has ", total - text.scored_from,
                      " tokens, more than the longest text of ", max_length,
                      " (--max-length of eval, train.seq_len of a training run)"));
  const int64_t left_out = std::max<int64_t>(0, total - (max_length + 1));
  text.tokens.erase(text.tokens.begin(), text.tokens.begin() + left_out);
  text.scored_from -= left_out;
}

}  // namespace

std::vector<ScoredText> encode_question(const Tokenizer& tokenizer, const Question& question,
                                        int64_t max_length) {
  std::vector<ScoredText> texts;
  try {
    const size_t kept = rstripped_size(question.context);
    const auto from = 1 + static_cast<int64_t>(tokenizer.encode(question.context.substr(0, kept)).size());
    for (const std::string& continuation : question.continuations) {
      texts.push_back({{tokenizer.bos_id()}, from});
      tokenizer.encode(question.context + continuation, texts.back().tokens);
    }
  } catch (const InputError& error) {
    throw InputError(concat(question.where, ": ", error.what()));
  }
  for (ScoredText& text : texts) cut(text, max_length, question.where);
  return texts;
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

std::optional<size_t> first_not_finite(const std::vector<Question>& questions,
                                       const std::vector<ContinuationScore>& scores) {
  size_t next = 0;
  for (size_t q = 0; q < questions.size(); ++q)
    for (size_t i = 0; i < questions[q].continuations.size(); ++i)
      if (!std::isfinite(scores[next++].log_likelihood)) return q;
  return std::nullopt;
}

std::vector<Metric> task_metrics(const std::vector<Question>& questions,
                                 const std::vector<ContinuationScore>& scores) {
  std::vector<double> acc, acc_norm, acc_bytes, log_likelihoods;
  size_t next = 0;
  for (const Question& question : questions) {
    if (question.continuations.size() == 1) {
      acc.push_back(hit(scores[next].greedy, {scores[next].log_likelihood}));
      log_likelihoods.push_back(scores[next++].log_likelihood);
      continue;
    }
    std::vector<double> plain, by_character, by_byte;
    for (size_t i = 0; i < question.continuations.size(); ++i) {
      plain.push_back(scores[next++].log_likelihood);
      by_character.push_back(plain.back() / question.characters[i]);
      by_byte.push_back(plain.back() / question.bytes[i]);
    }
    acc.push_back(hit(argmax(plain) == question.label, plain));
    acc_norm.push_back(hit(argmax(by_character) == question.label, plain));
    acc_bytes.push_back(hit(argmax(by_byte) == question.label, plain));
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
