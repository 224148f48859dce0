// Rules across fields.
#include "config/yaml_case.h"
#include "support/catch.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

struct BrokenRule {
  const char* text;  // follows the five lines of kMinimal
  const char* message;
};

const BrokenRule kBroken[] = {
    {"model: {layers: {attention_period: 8, attention_offset: 8}}",
     "c.yaml:6: model.layers.attention_offset: 8 must be smaller than attention_period = 8"},
    {"model: {layers: {attention_period: 4}}", "c.yaml:6: model.layers.attention_offset: 7 must be smaller"},
    {"model:\n  num_layers: 12", "model.layers.attention_period: 8 does not divide model.num_layers = 12"},
    {"model:\n  layers:\n    pattern: SA\n    attention_period: 8",
     "c.yaml:9: model.layers.attention_period: pattern is given too"},
    {"model: {layers: {attention_offset: 7, pattern: SA}}", "attention_offset: pattern is given too"},
    {"model: {layers: {pattern: SSA}}",
     "model.layers.pattern: its 3 layers do not divide model.num_layers = 32"},
    {"model: {layers: {pattern: sa}}",
     "model.layers.pattern: 'sa': expected letters S (SSD) and A (attention)"},
    {"model: {attention: {num_kv_heads: 3}}",
     "num_kv_heads: 3 does not divide model.attention.num_heads = 8"},
    {"model: {attention: {num_kv_heads: 16}}",
     "num_kv_heads: 16 does not divide model.attention.num_heads = 8"},
    {"model: {attention: {head_dim: 33}}", "model.attention.head_dim: 33 must be even"},
    {"model: {ssd: {num_groups: 5}}", "model.ssd.num_groups: 5 does not divide model.ssd.num_heads = 8"},
    {"model: {ssd: {state_dim: 33}}", "model.ssd.state_dim: 33 must be even"},
    {"model: {ssd: {chunk_size: 96}}",
     "model.ssd.chunk_size: 96 must be a power of two: 16, 32, 64, 128 or 256"},
    {"model: {ssd: {conv_width: 1}}", "model.ssd.conv_width: 1 must be 0 (none) or at least 2"},
    {"model: {ssd: {dt_min: 0.1}}", "model.ssd.dt_min: 0.1 must be smaller than dt_max = 0.1"},
    {"model: {ssd: {a_init_range: [16, 1]}}", "model.ssd.a_init_range: expected [smallest, largest]"},
    {"model: {ssd: {init: published, dt_max: 0.2}}", "model.ssd.dt_max: has no effect with init: published"},
    {"model: {rope: {factor: 2}}", "model.rope.factor: has no effect with scaling: none"},
    {"model: {rope: {scaling: ntk, factor: 2, beta_fast: 9}}", "beta_fast: has no effect with scaling: ntk"},
    {"model: {rope: {scaling: yarn, high_freq_factor: 2}}",
     "high_freq_factor: has no effect with scaling: yarn"},
    {"model: {rope: {scaling: llama3, attention_factor: 2}}",
     "attention_factor: has no effect with scaling: llama3"},
    {"model: {rope: {scaling: linear, original_max_position: 9}}", "original_max_position: has no effect"},
    {"model: {rope: {scaling: yarn, beta_slow: 32}}", "model.rope.beta_slow: must be smaller than beta_fast"},
    {"model: {rope: {scaling: llama3, low_freq_factor: 4}}",
     "low_freq_factor: must be smaller than high_freq"},
    {"model: {layers: {pattern: S}, ssd: {rope: false}, rope: {scaling: ntk}}",
     "model.rope.scaling: has no effect"},
    {"train2: {}", "train2: unknown key. Did you mean train?"},
    {"schedule: {warmup_steps: 5, warmup_ratio: 0.1}",
     "c.yaml:6: schedule.warmup_ratio: warmup_steps and warmup_ratio are both given; keep one"},
    {"schedule: {decay_steps: 5, decay_ratio: 0.1}", "decay_steps and decay_ratio are both given; keep one"},
    {"schedule: {type: cosine, decay_ratio: 0.1}", "schedule.decay_ratio: has no effect with type: cosine"},
    {"schedule: {type: linear, decay_type: sqrt}", "schedule.decay_type: has no effect with type: linear"},
    {"schedule: {type: constant, min_lr_ratio: 0.1}",
     "schedule.min_lr_ratio: has no effect with type: constant"},
};

std::string broken(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return refusal(kMinimal + text + "\n", overrides);
}

}  // namespace

TEST_CASE("config: broken rules across fields are refused with place and keys") {
  for (const BrokenRule& rule : kBroken) {
    const std::string message = broken(rule.text);
    INFO(rule.text << " -> " << message << "\nexpected: " << rule.message);
    CHECK(message.find(rule.message) != std::string::npos);
  }
}

TEST_CASE("config: rules of training and data are refused with place and keys") {
  const auto check = [](const std::vector<std::string>& overrides, const std::string& expected) {
    const std::string message = broken("", overrides);
    INFO(message << "\nexpected: " << expected);
    CHECK(message.find(expected) != std::string::npos);
  };
  check({"train.global_batch_size=10", "train.micro_batch_size=4"},
        "10 is not a multiple of micro_batch_size = 4; nearest: global_batch_size 8 or 12, or "
        "micro_batch_size 2");
  check({"train.global_batch_size=5"}, "nearest: global_batch_size 8, or micro_batch_size 5");
  check({"train.seq_len=1048576", "train.global_batch_size=4096", "train.micro_batch_size=4096"},
        "2^31 tokens");
  check({"train.stop_exit_code=2"}, "train.stop_exit_code: 2 is taken");
  check({"train.run_dir="}, "train.run_dir: needs a folder");
  check({"data.train=[]"}, "data.train: needs at least one source");
  check({"data.train=[{path: a}, {path: a}]"}, "data.train: a is given twice");
  check({"data.train=[{path: a}, {path: ./a/}]"}, "data.train: ./a/ is given twice");
  check({"data.train=[{path: a, weight: 1}, {path: b}]"}, "give a weight to every source or to none");
  check({"data.train=[{path: ''}]"}, "data.train: a source has an empty path");
  check({"data.validation=[{name: a/b, path: p}]"}, "data.validation: name 'a/b': expected letters");
  check({"data.validation=[{name: a, path: p}, {name: a, path: q}]"}, "two sets are named 'a'");
  check({"data.validation=[{name: a, path: p}]", "data.split=[0.9, 0.1]"},
        "split and validation are both given");
  check({"data.split=[0.9, 0.2]"}, "data.split: the two shares must add up to 1");
  check({"data.split=[1.0, 0.0]"}, "data.split[0]: expected number in (0, 1)");
  check({"data.tokenizer="}, "data.eod_id: is needed without data.tokenizer");
  check({"data.eod_id=5", "data.tokenizer=t"}, "data.eod_id: comes from data.tokenizer; leave it out");
  check({"data.eod_id=32768"}, "data.eod_id: 32768 is not a token: model.vocab_size is 32768");
}

TEST_CASE("config: what a mixer needs is not asked of a model without that mixer") {
  CHECK(broken("model: {layers: {pattern: A}, ssd: {chunk_size: 100, num_groups: 3}}").empty());
  CHECK(broken("model: {layers: {pattern: S}, attention: {num_kv_heads: 3, head_dim: 7}}").empty());
  CHECK(broken("model: {ssd: {rope: false, state_dim: 33}}").empty());
}

TEST_CASE("config: layers follow period and offset, or the repeated pattern") {
  const auto letters = [](const ModelConfig& model) {
    std::string text;
    for (const MixerKind kind : layer_mixers(model)) text += kind == MixerKind::attention ? 'A' : 'S';
    return text;
  };
  ModelConfig model;
  model.num_layers = 6;
  model.layers = {3, 1, ""};
  CHECK(letters(model) == "SASSAS");
  model.layers.pattern = "SA";
  CHECK(letters(model) == "SASASA");
  model.layers.pattern = "A";
  CHECK(letters(model) == "AAAAAA");
}
