// From log-likelihoods to accuracies, and from texts to tokens, as lm-evaluation-harness does both.
#include "eval/scoring.h"

#include <cmath>
#include <limits>

#include "data/tokenizer_trainer.h"
#include "eval/python_text.h"
#include "support/catch.h"
#include "support/require_error.h"
#include "support/source_dir.h"
#include "support/temp_folder.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

Question question(std::vector<std::string> continuations, int64_t label) {
  Question q{"", std::move(continuations), label, {}, {}, "file:1"};
  for (const std::string& c : q.continuations) {
    q.characters.push_back(static_cast<double>(python_length(c)));
    q.bytes.push_back(static_cast<double>(c.size()));
  }
  return q;
}

double value(const std::vector<Metric>& metrics, const std::string& name) {
  for (const Metric& metric : metrics)
    if (metric.name == name) return metric.value;
  FAIL("no metric " << name);
  return 0;
}

}  // namespace

TEST_CASE("scoring: the likeliest continuation counts, the first of equals") {
  const auto tie = task_metrics({question({"a", "b"}, 0), question({"a", "b"}, 1)},
                                {{-2, false}, {-2, false}, {-2, false}, {-2, false}});
  REQUIRE(value(tie, "acc") == 0.5);
}

TEST_CASE("scoring: acc_norm divides by characters, acc_bytes by bytes") {
  // Characters 4 and 2, bytes 4 and 4: per character −1.25 and −2, per byte −1.25 and −1.
  const auto metrics = task_metrics({question({"abcd", "éé"}, 0)}, {{-5, false}, {-4, false}});
  REQUIRE(value(metrics, "acc") == 0);
  REQUIRE(value(metrics, "acc_norm") == 1);
  REQUIRE(value(metrics, "acc_bytes") == 0);
}

TEST_CASE("scoring: one continuation gives greedy accuracy and perplexity, with errors") {
  const std::vector<Question> questions(3, question({"word"}, 0));
  const auto metrics = task_metrics(questions, {{-1, true}, {-2, false}, {-3, false}});
  REQUIRE(value(metrics, "acc") == Approx(1.0 / 3));
  REQUIRE(value(metrics, "perplexity") == Approx(std::exp(2.0)));
  REQUIRE(*metrics[0].stderr_of_value == Approx(std::sqrt(1.0 / 3) / std::sqrt(3.0)));
  REQUIRE(*metrics[1].stderr_of_value == Approx(std::exp(2.0) / std::sqrt(3.0)));
  REQUIRE_FALSE(mean_metric("acc", {1}).stderr_of_value.has_value());
}

TEST_CASE("scoring: what is not finite makes no metric") {
  const double nan = std::nan(""), infinite = std::numeric_limits<double>::infinity();
  const std::vector<Question> questions(2, question({"a", "b"}, 0));
  const std::vector<ContinuationScore> scores{{-1, false}, {-2, false}, {nan, false}, {-1, true}};
  for (const Metric& metric : task_metrics(questions, scores)) {
    CAPTURE(metric.name);
    REQUIRE(std::isnan(metric.value));
    REQUIRE(std::isnan(*metric.stderr_of_value));
  }
  REQUIRE(first_not_finite(questions, scores) == 1);
  REQUIRE_FALSE(first_not_finite(questions, std::vector<ContinuationScore>(4, {-1, false})));
  const auto one = task_metrics({question({"a"}, 0)}, {{-infinite, true}});
  REQUIRE(std::isnan(value(one, "acc")));
}

TEST_CASE("scoring: Python's white space, lengths and capitals") {
  REQUIRE(rstripped_size("a \t\n") == 1);
  REQUIRE(rstripped_size("a\xC2\xA0\xE3\x80\x80") == 1);  // no-break and ideographic space
  REQUIRE(rstripped_size("a\xE2\x80\x8B") == 4);          // zero width space is none
  REQUIRE(python_strip(" \n a b \x1F") == "a b");
  REQUIRE(python_strip("  ").empty());
  REQUIRE(python_length("aé漢😀") == 4);
  REQUIRE(python_capitalize("éCOLE Ünd ÄB") == "École ünd äb");
  REQUIRE(python_capitalize("").empty());
}

TEST_CASE("scoring: context and continuation as tokens") {
  const TempFolder folder;
  TokenizerTraining training;
  training.inputs = {(kSourceDir / "LICENSE").string()};
  training.model_prefix = (folder / "tok").string();
  training.vocab_size = 400;
  train_tokenizer(training);
  const Tokenizer tokenizer(folder / "tok.model");
  const std::string context = "This License applies to", continuation = " any software";

  const auto encoded = [&](const std::string& before, const std::string& after, int64_t max_length) {
    Question asked = question({after}, 0);
    asked.context = before;
    return encode_question(tokenizer, asked, max_length)[0];
  };
  const ScoredText plain = encoded(context, continuation, 100);
  const auto alone = static_cast<int64_t>(tokenizer.encode(context).size());
  REQUIRE(plain.tokens[0] == tokenizer.bos_id());
  REQUIRE(plain.scored_from == 1 + alone);
  REQUIRE(tokenizer.decode({plain.tokens.begin() + 1, plain.tokens.end()}) == context + continuation);

  // White space moves from the context's end to the continuation.
  const ScoredText moved = encoded(context + " ", "any software", 100);
  REQUIRE(moved.tokens == plain.tokens);
  REQUIRE(moved.scored_from == plain.scored_from);

  REQUIRE(encoded("", continuation, 100).scored_from == 1);
  REQUIRE(encoded("  ", continuation, 100).scored_from == 1);

  // The start of a long context is left out, the continuation never.
  const int64_t scored = static_cast<int64_t>(plain.tokens.size()) - plain.scored_from;
  const ScoredText cut = encoded(context, continuation, scored);
  REQUIRE(cut.scored_from == 1);
  REQUIRE(std::equal(cut.tokens.rbegin(), cut.tokens.rend(), plain.tokens.rbegin()));
  require_error([&] { encoded(context, continuation, scored - 1); }, "file:1: a continuation has");
}
