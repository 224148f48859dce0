// --set: what it replaces and how its errors read.
#include "config/yaml_case.h"
#include "support/catch.h"

using namespace transxssm;
using namespace transxssm::test;

TEST_CASE("config: overrides set fields in order, also those the file leaves out") {
  const RunConfig config = load_text(
      kMinimal, {"train.max_steps=200", "model.ssd.chunk_size=32", "optimizer.lr=2e-4", "train.max_steps=300",
                 "data.train=[{path: a, weight: 2}, {path: b, weight: 1}]", "optimizer.betas=[0.8, 0.9]",
                 "train.run_dir=runs/a=b", "train.deterministic=false"});
  CHECK(config.train.max_steps == 300);
  CHECK(config.model.ssd.chunk_size == 32);
  CHECK(config.optimizer.lr == 2e-4);
  CHECK(config.data.train == std::vector<TrainSource>{{"a", 2.0}, {"b", 1.0}});
  CHECK(config.optimizer.betas == std::vector<double>{0.8, 0.9});
  CHECK(config.train.run_dir == "runs/a=b");
  CHECK_FALSE(config.train.deterministic);
}

TEST_CASE("config: an override with an empty value is the empty text") {
  const RunConfig config = load_text(kMinimal, {"data.tokenizer=", "data.eod_id=0"});
  CHECK(config.data.tokenizer.empty());
  CHECK(config.data.eod_id == 0);
}

TEST_CASE("config: an override of one alternative takes the place of the file's other") {
  const std::string file = kMinimal + std::string(
                                          "schedule: {warmup_ratio: 0.1, decay_steps: 7}\n"
                                          "model: {layers: {attention_period: 4, attention_offset: 3}}\n");
  const RunConfig config =
      load_text(file, {"schedule.warmup_steps=5", "schedule.decay_ratio=0.2", "model.layers.pattern=SA",
                       "data.eod_id=3", "data.split=[0.9, 0.1]"});
  CHECK(config.schedule.warmup_steps == 5);
  CHECK(config.schedule.warmup_ratio == 0);
  CHECK(config.schedule.decay_steps == 0);
  CHECK(config.schedule.decay_ratio == 0.2);
  CHECK(config.model.layers == LayersConfig{8, 7, "SA"});
  CHECK(config.data.tokenizer.empty());
  CHECK(load_text(file, {"schedule.warmup_steps=0"}).schedule.warmup_ratio == 0);
  CHECK(load_text(file, {"model.layers.pattern="}).model.layers.attention_period == 4);
  const std::string with_pattern = kMinimal + std::string("model: {layers: {pattern: A}}\n");
  CHECK(load_text(with_pattern, {"model.layers.attention_period=4", "model.layers.attention_offset=1"})
            .model.layers == LayersConfig{4, 1, ""});
  CHECK(refusal(file, {"schedule.warmup_steps=5", "schedule.warmup_ratio=0.5"}).find("keep one") !=
        std::string::npos);
  CHECK(refusal(file, {"model.layers.pattern=A", "model.layers.attention_period=4"}).find("keep one") !=
        std::string::npos);
}

TEST_CASE(
    "config: an override that chooses a variant drops what it does not use from the file, and only that") {
  const std::string file =
      kMinimal + std::string(
                     "schedule: {decay_ratio: 0.1, decay_type: sqrt, min_lr_ratio: 0.2}\n"
                     "model: {rope: {scaling: yarn, factor: 4, beta_fast: 16}, ssd: {dt_max: 0.2}}\n");
  const ScheduleConfig cosine = load_text(file, {"schedule.type=cosine"}).schedule;
  CHECK(cosine == ScheduleConfig{.type = ScheduleType::cosine, .min_lr_ratio = 0.2});
  CHECK(load_text(file, {"schedule.type=constant"}).schedule ==
        ScheduleConfig{.type = ScheduleType::constant});
  CHECK(load_text(file, {"schedule.type=cosine", "schedule.type=wsd"}).schedule.decay_ratio == 0.1);
  const RopeConfig ntk = load_text(file, {"model.rope.scaling=ntk"}).model.rope;
  CHECK(ntk.factor == 4);
  CHECK(ntk.beta_fast == RopeConfig{}.beta_fast);
  CHECK(load_text(file, {"model.ssd.init=published"}).model.ssd.dt_max == SsdConfig{}.dt_max);
  // Two overrides that contradict each other, a file that does, and an override that contradicts a file.
  const auto refused = [](const std::string& text, const std::vector<std::string>& overrides) {
    const std::string message = refusal(text, overrides);
    INFO(message);
    CHECK(message.find("schedule.decay_ratio: has no effect with type: cosine") != std::string::npos);
  };
  const std::string cosine_file = kMinimal + std::string("schedule: {type: cosine}\n");
  refused(file, {"schedule.type=cosine", "schedule.decay_ratio=0.2"});
  refused(file, {"schedule.decay_ratio=0.2", "schedule.type=cosine"});
  refused(cosine_file, {"schedule.decay_ratio=0.2"});
  refused(kMinimal + std::string("schedule: {type: cosine, decay_ratio: 0.2}\n"),
          {"schedule.min_lr_ratio=0.1"});
}

TEST_CASE("config: the errors of an override name the override") {
  const auto starts = [](const std::string& override_text, const std::string& message) {
    const std::string got = refusal(kMinimal, {override_text});
    INFO(got);
    CHECK(got.find("--set " + override_text + ": " + message) == 0);
  };
  starts("train.max_stesp=5", "train.max_stesp: unknown key. Did you mean max_steps?");
  starts("trian.max_steps=5", "trian: unknown key. Did you mean train?");
  starts("train.max_steps=5.5", "train.max_steps: expected integer from 1");
  starts("train.max_steps=", "train.max_steps: expected integer from 1");
  starts("train.max_steps.x=5", "train.max_steps: expected integer from 1");
  starts("train.run_dir.x=5", "train.run_dir.x: no such key; 'run_dir' has no keys");
  starts("data.train.path=5",
         "data.train.path: no such key; 'train' has no keys of its own and is replaced whole");
  starts("train={max_steps: 5}", "overrides set one field each, for example --set train.KEY=VALUE");
  starts("train=5", "train: expected keys (run_dir, ");
  starts("train.max_steps", "expected key.key=value");
  starts("=5", "expected key.key=value");
  starts("data.train[0].path=5", "expected key.key=value");
  starts("optimizer.betas=[0.9", "YAML syntax: ");
  starts("train.global_batch_size=3", "train.global_batch_size: 3 is not a multiple of micro_batch_size = 8");
  starts("model.layers.pattern=SSX",
         "model.layers.pattern: 'SSX': expected letters S (SSD) and A (attention)");
}
