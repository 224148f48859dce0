// Questions that several ranks answer together.
#include "data/tokenizer_trainer.h"
#include "distributed/trained_ranks.h"
#include "support/catch.h"
#include "support/source_dir.h"
#include "trainer/task_set.h"

namespace transxssm::test {
namespace {

// Texts of 2 to 60 tokens, more than two batches of 128 and fewer than ten.
TaskSet texts_and_questions() {
  TaskSet set{"x", {}, {}, {}};
  const Philox random(5);
  for (size_t i = 0; i < 24; ++i) {
    const auto block = random.block(i);
    ScoredText text{{}, 1 + block[1] % 2};
    for (uint32_t t = 0; t < 3 + block[0] % 58; ++t)
      text.tokens.push_back(static_cast<int32_t>((block[2] + t * block[3]) % 61));
    set.texts.push_back(std::move(text));
    set.text_of.push_back(i);
    if (i % 3 == 2) {
      Question question{"", {"a", "bc", "def"}, static_cast<int64_t>(i / 3 % 3), {1, 2, 3}, {1, 2, 3}, "f"};
      set.questions.push_back(std::move(question));
    }
  }
  return set;
}

std::vector<double> values(const TaskResult& result) {
  std::vector<double> out;
  for (const Metric& metric : result.metrics) {
    out.push_back(metric.value);
    out.push_back(metric.stderr_of_value.value_or(-1));
  }
  return out;
}

TEST_CASE("tasks: the same on every rank, for any number of them") {
  const auto size = GENERATE(1, 2, 3, 4);
  CAPTURE(size);
  const auto errors = errors_of_ranks(size, [](Mesh& mesh) {
    const TinyModel tiny(tiny_config("transxssm"));
    TaskSet set = texts_and_questions();
    size_t scored = 0;
    const auto count = [&](size_t texts) { return (scored += texts) > 0; };
    const auto shared = evaluate_task(tiny.model, set, 128, mesh, count);
    expect(scored == set.texts.size(), concat(scored, " texts were scored"));
    const auto alone = evaluate_task(tiny.model, set, 128, Mesh::single(), count);
    expect(values(*shared) == values(*alone), "several continuations: not what one rank finds");
    // One continuation each, of which perplexity shows every bit.
    set.questions.assign(set.texts.size(), Question{"", {"a"}, 0, {1}, {1}, "f"});
    expect(values(*evaluate_task(tiny.model, set, 128, mesh, count)) ==
               values(*evaluate_task(tiny.model, set, 128, Mesh::single(), count)),
           "one continuation: not what one rank finds");
    expect(!evaluate_task(tiny.model, set, 128, mesh, [](size_t) { return false; }), "went on");
  });
  CHECK(errors == std::vector<std::string>(static_cast<size_t>(size)));
}

TEST_CASE("tasks: a run of two ranks answers them as one rank does") {
  const TinyRun tiny;
  TokenizerTraining training;
  training.inputs = {(kSourceDir / "LICENSE").string()};
  training.model_prefix = (tiny.folder / "tok").string();
  training.vocab_size = 400;
  training.threads = 1;
  std::ofstream requests(tiny.folder / "requests.jsonl");
  for (int i = 0; i < 40; ++i)
    requests << R"({"context": "This License)" << std::string(static_cast<size_t>(i % 9), 's')
             << R"(", "continuations": [" applies to )" << i << R"("], "label": 0})" << '\n';
  requests.close();
  RunConfig config = tiny.config("one");
  config.model.vocab_size = 400;
  config.data.tokenizer = (tiny.folder / "tok.model").string();
  config.data.tasks = {{"license", (tiny.folder / "requests.jsonl").string()}};
  RunConfig by_two = config;
  by_two.train.run_dir = (tiny.folder / "two").string();
  // The tokenizer's trainer starts threads, so that it runs in a process of its own too.
  ForkedRank trained([&](const RankEnvironment&) { train_tokenizer(training); });
  {
    const LocalStore store;
    trained.start(store.environment(0, 1));
    REQUIRE(trained.wait().empty());
  }
  REQUIRE(TrainedRanks(config, 1).wait() == std::vector<std::string>(1));
  REQUIRE(TrainedRanks(by_two, 2).wait() == std::vector<std::string>(2));
  const auto one = metric_rows(config.train.run_dir), two = metric_rows(by_two.train.run_dir);
  REQUIRE(one.size() == two.size());
  int64_t tasks = 0;
  for (size_t i = 0; i < one.size(); ++i) {
    if (one[i].at("kind") != "task") continue;
    ++tasks;
    CHECK(one[i].at("perplexity").get<double>() ==
          Approx(two[i].at("perplexity").get<double>()).epsilon(1e-4));
  }
  CHECK(tasks == 2);
}

}  // namespace
}  // namespace transxssm::test
