// Scores of texts do not depend on what shares their batch, and sum up to the training loss.
#include "trainer/scorer.h"

#include <cmath>

#include "data/validation_set.h"
#include "support/catch.h"
#include "support/require_error.h"
#include "support/tiny_run.h"
#include "trainer/evaluator.h"
#include "trainer/perplexity.h"

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
  const auto together = score_continuations(tiny.model, texts, 256, always);
  for (size_t i = 0; i < texts.size(); ++i) {
    CAPTURE(i);
    const auto alone = score_continuations(tiny.model, {texts[i]}, 64, always)[0];
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
  REQUIRE(score_continuations(tiny.model, texts, 128, [](size_t) { return false; }).empty());
}

TEST_CASE("scorer: texts as long as the model reads, and none beyond") {
  const TinyModel tiny(tiny_config("transxssm"), {70});
  const auto scores = score_continuations(tiny.model, {text(71, 1, 1), text(3, 1, 2)}, 64, always);
  REQUIRE(scores[0].log_likelihood < 0);
  REQUIRE(scores[1].log_likelihood < 0);
  REQUIRE_THROWS(score_continuations(tiny.model, {text(72, 1, 1)}, 64, always));
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
