// Training by 1 to 4 ranks: the same losses, the same checkpoints, the same decisions.
#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

#include "distributed/trained_ranks.h"
#include "support/run_result.h"
#include "trainer/run_folder.h"

namespace transxssm::test {
namespace {

// Rounding of sums, grown over fifty steps.
constexpr double kRounding = 2e-5;

RunConfig config_of(const TinyRun& tiny, const std::string& name, int64_t stage) {
  RunConfig config = tiny.config(name);
  config.model.num_layers = 2;
  config.train.global_batch_size = 12;
  config.train.micro_batch_size = 1;
  config.train.max_steps = 50;
  config.validation.every = 25;
  config.parallel.zero_stage = stage;
  return config;
}

TEST_CASE("ranks: losses don't depend on their number or the stage") {
  const TinyRun tiny;
  const RunConfig alone = config_of(tiny, "alone", 0);
  REQUIRE(TrainedRanks(alone, 1).end_well());
  const auto expected = losses_of(alone);
  for (const int64_t stage : {0, 1, 2, 3}) {
    for (const int size : {1, 2, 3, 4}) {
      const RunConfig config = config_of(tiny, concat("run", stage, size), stage);
      REQUIRE(TrainedRanks(config, size).end_well());
      const double difference = largest_difference(losses_of(config), expected);
      CAPTURE(stage, size, difference);
      CHECK(difference < kRounding);
      if (size == 1) CHECK(difference == 0);
    }
  }
}

TEST_CASE("ranks: the same layout gives the same bits") {
  const TinyRun tiny;
  const int64_t stage = GENERATE(0, 1, 2, 3);
  RunConfig first = config_of(tiny, "first", stage), second = config_of(tiny, "second", stage);
  first.train.max_steps = second.train.max_steps = 10;
  REQUIRE(TrainedRanks(first, 3).end_well());
  REQUIRE(TrainedRanks(second, 3).end_well());
  require_equal_bits(final_state(first.train.run_dir), final_state(second.train.run_dir));
  CHECK(losses_of(first) == losses_of(second));
}

TEST_CASE("ranks: sums in bf16 are close to those in fp32") {
  const TinyRun tiny;
  const int64_t stage = GENERATE(0, 1, 2, 3);
  RunConfig fp32 = config_of(tiny, "fp32", stage), bf16 = config_of(tiny, "bf16", stage);
  bf16.parallel.reduce_dtype = ReduceDtype::bf16;
  REQUIRE(TrainedRanks(fp32, 2).end_well());
  REQUIRE(TrainedRanks(bf16, 2).end_well());
  const double difference = largest_difference(losses_of(bf16), losses_of(fp32));
  CHECK(difference > 0);
  CHECK(difference < 5e-3);
}

TEST_CASE("ranks: a run goes on with another number of them and another stage") {
  const TinyRun tiny;
  RunConfig whole = config_of(tiny, "whole", 0);
  whole.schedule = {.type = ScheduleType::constant};
  whole.train.max_steps = 20;
  REQUIRE(TrainedRanks(whole, 1).end_well());
  struct Layout {
    int ranks;
    int64_t stage;
  };
  const std::vector<std::vector<Layout>> runs = {
      {{4, 1}, {1, 0}}, {{4, 2}, {2, 0}}, {{4, 3}, {3, 2}},
      {{1, 0}, {4, 1}}, {{2, 0}, {4, 3}}, {{4, 3}, {2, 1}, {1, 0}},
  };
  for (const auto& layouts : runs) {
    RunConfig config = whole;
    config.train.run_dir = (tiny.folder / concat("parts", &layouts - runs.data())).string();
    std::vector<int64_t> ends;
    for (const Layout& layout : layouts) {
      CAPTURE(ends.size(), layout.ranks, layout.stage);
      ends.push_back(whole.train.max_steps * static_cast<int64_t>(ends.size() + 1) /
                     static_cast<int64_t>(layouts.size()));
      config.train.max_steps = ends.back();
      config.parallel.zero_stage = layout.stage;
      REQUIRE(TrainedRanks(config, layout.ranks).end_well());
    }
    // Each part ends with a validation of its own.
    auto losses = losses_of(config);
    ends.pop_back();
    for (const int64_t end : ends) losses.erase(losses.begin() + end);
    CHECK(largest_difference(losses, losses_of(whole)) < kRounding);
    CHECK(final_state(config.train.run_dir).values.at("loader") ==
          final_state(whole.train.run_dir).values.at("loader"));
  }
}

TEST_CASE("ranks: a signal to one of them saves on all at the same step") {
  const TinyRun tiny;
  RunConfig config = config_of(tiny, "stopped", 1);
  config.train.max_steps = 1000000;
  config.validation.every = 1000000;
  const TrainedRanks ranks(config, 3, /*expected_exit_code=*/75);
  const auto lines = [&] {
    std::ifstream in(std::filesystem::path(config.train.run_dir) / "metrics.jsonl");
    return std::count(std::istreambuf_iterator<char>(in), {}, '\n');
  };
  for (int tries = 0; lines() < 3 && tries < 1000; ++tries)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  REQUIRE(lines() >= 3);
  REQUIRE(::kill(ranks.process(2), SIGTERM) == 0);
  REQUIRE(ranks.end_well());
  const auto status = status_of(config.train.run_dir);
  CHECK(status.at("state") == "stopped");
  CHECK(status.at("reason") == "asked to terminate (SIGTERM)");
  const auto checkpoints = list_checkpoints(config.train.run_dir);
  REQUIRE(checkpoints.size() == 1);
  CHECK(checkpoints[0].step == status.at("step"));
}

TEST_CASE("ranks: a global batch that they can't divide is refused on all") {
  const TinyRun tiny;
  const auto errors = TrainedRanks(config_of(tiny, "refused", 0), 5).wait();
  for (const std::string& error : errors)
    CHECK(error ==
          "train.global_batch_size: 12 sequences can't be divided among 5 ranks in micro-batches of 1; "
          "nearest: global_batch_size 10 or 15, or 4 ranks");
}

TEST_CASE("ranks: a folder in use is refused on all") {
  const TinyRun tiny;
  const RunConfig config = config_of(tiny, "used", 0);
  const RunFolder user(config.train.run_dir);
  const auto errors = TrainedRanks(config, 2).wait();
  CHECK(errors[0].find("in use") != std::string::npos);
  CHECK(errors[0] == errors[1]);
}

}  // namespace
}  // namespace transxssm::test
