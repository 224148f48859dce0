// Scores of texts do not depend on what shares their batch, and sum up to the training loss.
#include "trainer/scorer.h"

#include <cmath>

#include <ATen/core/grad_mode.h>

#include "core/atomic_file.h"
#include "data/tokenizer_trainer.h"
#include "data/validation_set.h"
#include "support/catch.h"
#include "support/require_error.h"
#include "support/source_dir.h"
#include "support/tiny_run.h"
#include "trainer/evaluator.h"
#include "trainer/perplexity.h"
#include "trainer/task_set.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

ScoredText text(int64_t tokens, int64_t scored_from, uint64_t seed) {
  ScoredText out{{}, scored_from};
  const at::Tensor ids = random_tokens(1, tokens, seed);
  for (int64_t i = 0; i < tokens; ++i) out.tokens.push_back(static_cast<int32_t>(ids[0][i].item<int64_t>()));
  return out;
}

bool always(size_t) { return true; }

constexpr const char* kPath = "tokens";

// Documents that are as long as a window, and one of a single token: windows of the trainer, which start at
// every 24th token and need one more for the last label, are then the documents.
void write_windows(const std::filesystem::path& folder) {
  TokenFileWriter writer(folder / kPath, 61);
  for (uint64_t d = 0; d < 9; ++d) writer.add_document(text(24, 1, d).tokens);
  writer.add_document(std::vector<int32_t>{1});
  writer.finish();
}

}  // namespace

TEST_CASE("scorer: a text scores the same alone, in a batch, and as its logits say") {
  const auto name = GENERATE(from_range(architectures()));
  CAPTURE(name);
  const TinyModel tiny(tiny_config(name));
  std::vector<ScoredText> texts;
  const std::vector<int64_t> lengths{2, 70, 3, 17, 40, 65, 64, 33, 2, 129, 16, 15};
  for (size_t i = 0; i < lengths.size(); ++i)
    texts.push_back(text(lengths[i], std::max<int64_t>(1, lengths[i] / 2), i));
  const auto together = score_continuations(tiny.model, texts, 256, Mesh::single(), always);
  for (size_t i = 0; i < texts.size(); ++i) {
    CAPTURE(i);
    const auto alone = score_continuations(tiny.model, {texts[i]}, 64, Mesh::single(), always)[0];
    REQUIRE(together[i].log_likelihood == Approx(alone.log_likelihood).epsilon(1e-5));
    REQUIRE(together[i].greedy == alone.greedy);

    const auto ids = at::tensor(std::vector<int64_t>(texts[i].tokens.begin(), texts[i].tokens.end()));
    const auto read = ids.narrow(0, 0, ids.numel() - 1).unsqueeze(0);
    const auto logits = tiny.model.logits(read, ops::one_document_per_row(1, read.size(1), at::kCPU))[0];
    const auto log_p = at::log_softmax(logits.to(at::kDouble), 1);
    double sum = 0;
    bool greedy = true;
    for (int64_t t = texts[i].scored_from; t < ids.numel(); ++t) {
      const auto id = ids[t].item<int64_t>();
      sum += log_p[t - 1][id].item<double>();
      greedy = greedy && log_p[t - 1].argmax().item<int64_t>() == id;
    }
    REQUIRE(alone.log_likelihood == Approx(sum).epsilon(1e-5));
    REQUIRE(alone.greedy == greedy);
  }
}

TEST_CASE("scorer: stops when told to") {
  const TinyModel tiny(tiny_config("transxssm"));
  const std::vector<ScoredText> texts(9, text(60, 1, 1));
  REQUIRE(score_continuations(tiny.model, texts, 128, Mesh::single(), [](size_t) { return false; }).empty());
}

TEST_CASE("scorer: texts as long as the model reads, and none beyond") {
  const TinyModel tiny(tiny_config("transxssm"), {70});
  const auto scores =
      score_continuations(tiny.model, {text(71, 1, 1), text(3, 1, 2)}, 64, Mesh::single(), always);
  REQUIRE(scores[0].log_likelihood < 0);
  REQUIRE(scores[1].log_likelihood < 0);
  REQUIRE_THROWS(score_continuations(tiny.model, {text(72, 1, 1)}, 64, Mesh::single(), always));
}

TEST_CASE("scorer: equal continuations tie, however they are packed") {
  const TempFolder folder;
  TokenizerTraining training;
  training.inputs = {(kSourceDir / "LICENSE").string()};
  training.model_prefix = (folder / "tok").string();
  training.vocab_size = 400;
  train_tokenizer(training);
  const Tokenizer tokenizer(folder / "tok.model");
  ModelConfig config = tiny_config("transxssm");
  config.vocab_size = 400;
  const TinyModel tiny(config);
  // The same right and wrong answer, and others of many lengths between them.
  std::vector<Question> questions;
  const std::string license = read_file(kSourceDir / "LICENSE");
  for (size_t i = 0; i < 60; ++i) {
    Question q{license.substr(0, 5 + 37 * i % 150), {}, 1, {}, {}, concat("f:", i)};
    const std::string same = " of the " + license.substr(100 + i, 3 + i % 9);
    q.continuations = {same, same, same + license.substr(200, i % 40), same};
    for (const std::string& text : q.continuations) {
      q.characters.push_back(static_cast<double>(text.size() - 1));
      q.bytes.push_back(q.characters.back());
    }
    questions.push_back(std::move(q));
  }
  const TaskSet set = make_task_set("x", questions, tokenizer, 128);
  REQUIRE(set.text_of.size() == 240);
  REQUIRE(set.texts.size() <= 120);
  std::optional<TaskResult> first;
  for (const int64_t batch_tokens : {64, 200, 1024, 8192}) {
    CAPTURE(batch_tokens);
    auto result = evaluate_task(tiny.model, set, batch_tokens, Mesh::single(), always);
    // The label is never the first of its equals.
    REQUIRE(result->metrics[0].value == 0);
    if (!first) first = result;
    for (size_t i = 0; i < first->metrics.size(); ++i)
      REQUIRE(result->metrics[i].value == first->metrics[i].value);
  }
}

TEST_CASE("scorer: logits that are not finite are named and measure nothing") {
  const TinyModel tiny(tiny_config("transxssm"));
  const TempFolder folder;
  TokenFileWriter writer(folder / kPath, 61);
  writer.add_document(std::vector<int32_t>{1, 5, 6, 7});
  writer.add_document(std::vector<int32_t>{1, 60, 7, 8});
  writer.finish();
  {
    const at::NoGradGuard no_grad;
    tiny.parameters.table().at("word_embed.weight")->weight[60].fill_(std::nanf(""));
  }
  TaskSet set{"x", std::vector<Question>(2), {{{1, 5, 6}, 1}, {{1, 60, 6}, 2}}, {0, 1}};
  for (Question& question : set.questions) question.continuations = {"a"};
  const auto result = evaluate_task(tiny.model, set, 64, Mesh::single(), always);
  REQUIRE(result->not_finite.has_value());
  REQUIRE(std::isnan(result->metrics[0].value));
  require_error(
      [&] {
        token_perplexity(tiny.model, (folder / kPath).string(), {},
                         {.max_length = 24, .batch_tokens = 128, .vocab_size = 61}, [](auto) {});
      },
      kNotFinite);
}

TEST_CASE("perplexity: the loss that the trainer reports on the same windows") {
  const TinyRun run;
  write_windows(run.folder.path());
  const TinyModel tiny(tiny_config("transxssm"));
  const std::vector<int32_t> bytes(61, 3);
  std::vector<ValidationSet> sets;
  sets.emplace_back("x", (run.folder / kPath).string(), run.config().data, LoaderShape{24, 4, 2, 61}, 100,
                    bytes);
  const auto trained = evaluate(tiny.model, sets, Mesh::single(), [] { return false; });
  const auto measured =
      token_perplexity(tiny.model, (run.folder / kPath).string(), bytes,
                       {.max_length = 24, .batch_tokens = 128, .vocab_size = 61}, [](auto) {});
  REQUIRE(measured.tokens == sets[0].counted_labels());
  REQUIRE(measured.bytes == sets[0].counted_bytes());
  REQUIRE(measured.loss() == Approx((*trained)[0].loss).epsilon(1e-6));
  REQUIRE(measured.nats / std::log(2.0) / static_cast<double>(measured.bytes) ==
          Approx(*(*trained)[0].bits_per_byte).epsilon(1e-6));
}

TEST_CASE("perplexity: documents beyond the longest window start anew, positions are counted in windows") {
  const TempFolder folder;
  const std::vector<int32_t> document = text(400, 1, 3).tokens;
  TokenFileWriter writer(folder / kPath, 61);
  writer.add_document(document);
  writer.finish();
  const TinyModel tiny(tiny_config("transxssm"), {512});
  const auto measure = [&](int64_t max_length) {
    return token_perplexity(tiny.model, (folder / kPath).string(), {},
                            {.max_length = max_length, .batch_tokens = 512, .vocab_size = 61}, [](auto) {});
  };
  const Perplexity whole = measure(512), cut = measure(200);
  REQUIRE(whole.tokens == 399);
  REQUIRE(whole.windows == 1);
  REQUIRE(whole.positions.size() == 3);
  REQUIRE(whole.positions[0].tokens == 127);
  REQUIRE(whole.positions[1].tokens == 128);
  REQUIRE(whole.positions[2].begin == 256);
  REQUIRE(whole.positions[2].end == 512);
  REQUIRE(whole.positions[2].tokens == 144);
  double nats = 0;
  for (const PositionLoss& at : whole.positions) nats += at.nats;
  REQUIRE(nats == Approx(whole.nats));
  REQUIRE(cut.windows == 2);
  REQUIRE(cut.tokens == 399);
  REQUIRE(cut.positions[0].tokens == 254);
  REQUIRE(cut.loss_stderr.has_value());
  require_error(
      [&] {
        token_perplexity(tiny.model, (folder / kPath).string(), {},
                         {.max_length = 24, .batch_tokens = 128, .vocab_size = 30}, [](auto) {});
      },
      "outside the vocabulary");
}
