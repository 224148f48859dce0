// Rules across fields.
#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <limits>
#include <set>

#include "config/load.h"
#include "config/rule_error.h"
#include "config/unused.h"
#include "config/valid_text.h"

namespace transxssm {
namespace {

void rule(bool holds, const std::string& key, const std::string& message) {
  if (!holds) throw RuleError(key, message);
}

void divides(int64_t value, const std::string& key, int64_t into, const std::string& into_key) {
  rule(into % value == 0, key, concat(value, " does not divide ", into_key, " = ", into));
}

// No option is ignored.
void check_unused(const RunConfig& config) {
  for (const UnusedField& field : unused_fields(config))
    rule(field.has_default, field.key, concat("has no effect with ", field.reason, "; leave it out"));
}

void check_layers(const ModelConfig& model) {
  const LayersConfig& layers = model.layers;
  if (layers.pattern.empty()) {
    rule(layers.attention_offset < layers.attention_period, "model.layers.attention_offset",
         concat(layers.attention_offset,
                " must be smaller than attention_period = ", layers.attention_period));
    divides(layers.attention_period, "model.layers.attention_period", model.num_layers, "model.num_layers");
    return;
  }
  rule(layers.pattern.find_first_not_of("SA") == std::string::npos, "model.layers.pattern",
       "'" + layers.pattern + "': expected letters S (SSD) and A (attention), such as SSSSSSSA");
  rule(model.num_layers % static_cast<int64_t>(layers.pattern.size()) == 0, "model.layers.pattern",
       concat("its ", layers.pattern.size(), " layers do not divide model.num_layers = ", model.num_layers));
}

void check_attention(const AttentionConfig& attention) {
  divides(attention.num_kv_heads, "model.attention.num_kv_heads", attention.num_heads,
          "model.attention.num_heads");
  rule(!attention.rope || attention.head_dim % 2 == 0, "model.attention.head_dim",
       concat(attention.head_dim, " must be even: rope turns pairs of channels"));
}

void check_ssd(const SsdConfig& ssd) {
  divides(ssd.num_groups, "model.ssd.num_groups", ssd.num_heads, "model.ssd.num_heads");
  rule(!ssd.rope || ssd.state_dim % 2 == 0, "model.ssd.state_dim",
       concat(ssd.state_dim, " must be even: rope turns pairs of channels"));
  rule(std::has_single_bit(static_cast<uint64_t>(ssd.chunk_size)), "model.ssd.chunk_size",
       concat(ssd.chunk_size, " must be a power of two: 16, 32, 64, 128 or 256"));
  rule(ssd.conv_width != 1, "model.ssd.conv_width", "1 must be 0 (none) or at least 2 tokens");
  rule(ssd.dt_min < ssd.dt_max, "model.ssd.dt_min",
       concat(number_text(ssd.dt_min), " must be smaller than dt_max = ", number_text(ssd.dt_max)));
  rule(ssd.a_init_range.at(0) <= ssd.a_init_range.at(1), "model.ssd.a_init_range",
       "expected [smallest, largest], got the reverse");
}

void check_rope(const RopeConfig& rope, bool in_use) {
  rule(rope.scaling == RopeScaling::none || in_use, "model.rope.scaling",
       "has no effect: no layer has a mixer with rope: true");
  rule(rope.beta_slow < rope.beta_fast, "model.rope.beta_slow", "must be smaller than beta_fast");
  rule(rope.low_freq_factor < rope.high_freq_factor, "model.rope.low_freq_factor",
       "must be smaller than high_freq_factor");
}

void check_model(const ModelConfig& model) {
  check_layers(model);
  const bool attention = has_mixer(model, MixerKind::attention);
  const bool ssd = has_mixer(model, MixerKind::ssd);
  if (attention) check_attention(model.attention);
  if (ssd) check_ssd(model.ssd);
  check_rope(model.rope, (attention && model.attention.rope) || (ssd && model.ssd.rope));
}

void check_sources(const DataConfig& data) {
  rule(!data.train.empty(), "data.train", "needs at least one source: [{path: PREFIX_OR_FOLDER}]");
  std::set<std::string> paths;
  for (const TrainSource& source : data.train) {
    rule(!source.path.empty(), "data.train", "a source has an empty path");
    const auto folder_form = std::filesystem::path(source.path) / "";  // dm, ./dm and dm/ are one
    rule(paths.insert(folder_form.lexically_normal().string()).second, "data.train",
         source.path + " is given twice; use one source and a weight");
    rule(source.weight.has_value() == data.train.front().weight.has_value(), "data.train",
         "give a weight to every source or to none (then they count by size)");
  }
  std::set<std::string> names;
  const std::string letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
  for (const ValidationSource& source : data.validation) {
    rule(!source.path.empty(), "data.validation", "a set has an empty path");
    rule(!source.name.empty() && source.name.find_first_not_of(letters) == std::string::npos,
         "data.validation", "name '" + source.name + "': expected letters, digits, _ and -");
    rule(names.insert(source.name).second, "data.validation", "two sets are named '" + source.name + "'");
  }
  rule(data.tasks.empty() || !data.tokenizer.empty(), "data.tasks",
       "questions are text and need data.tokenizer");
  for (const TaskSource& source : data.tasks) {
    rule(!source.path.empty(), "data.tasks", "a set has an empty path");
    rule(!source.name.empty() && source.name.find_first_not_of(letters) == std::string::npos, "data.tasks",
         "name '" + source.name + "': expected letters, digits, _ and -");
    rule(names.insert(source.name).second, "data.tasks", "two sets are named '" + source.name + "'");
  }
}

void check_data(const DataConfig& data, int64_t vocab_size) {
  check_sources(data);
  if (!data.split.empty()) {
    rule(data.validation.empty(), "data.split", "split and validation are both given; keep one");
    rule(std::abs(data.split.at(0) + data.split.at(1) - 1.0) < 1e-9, "data.split",
         "the two shares must add up to 1, such as [0.999, 0.001]");
  }
  if (data.tokenizer.empty()) {
    rule(data.eod_id >= 0, "data.eod_id",
         "is needed without data.tokenizer: the id of the end-of-document token");
  } else {
    rule(data.eod_id == -1, "data.eod_id", "comes from data.tokenizer; leave it out");
  }
  rule(data.eod_id < vocab_size, "data.eod_id",
       concat(data.eod_id, " is not a token: model.vocab_size is ", vocab_size));
}

// The batch sizes nearest to the wrong pair, as advice.
std::string nearest_batches(int64_t global, int64_t micro) {
  const int64_t below = global / micro * micro;
  int64_t divisor = std::min(micro, global);
  while (global % divisor != 0) --divisor;
  return concat("nearest: global_batch_size ", below > 0 ? concat(below, " or ") : "", below + micro,
                ", or micro_batch_size ", divisor);
}

void check_train(const TrainConfig& train) {
  rule(!train.run_dir.empty(), "train.run_dir", "needs a folder, such as runs/my-run");
  rule(train.global_batch_size % train.micro_batch_size == 0, "train.global_batch_size",
       concat(train.global_batch_size, " is not a multiple of micro_batch_size = ", train.micro_batch_size,
              "; ", nearest_batches(train.global_batch_size, train.micro_batch_size)));
  // Document offsets of a micro-batch are 32-bit.
  rule(train.seq_len <= std::numeric_limits<int32_t>::max() / train.micro_batch_size,
       "train.micro_batch_size", "micro_batch_size × seq_len must stay below 2^31 tokens");
  rule(train.stop_exit_code != 1 && train.stop_exit_code != 2, "train.stop_exit_code",
       concat(train.stop_exit_code, " is taken: 1 means failure, 2 bad input"));
}

void check_schedule(const ScheduleConfig& schedule) {
  const auto one_of = [](int64_t steps, double ratio, const std::string& name) {
    rule(steps == 0 || ratio == 0, "schedule." + name + "_ratio",
         concat(name, "_steps and ", name, "_ratio are both given; keep one"));
  };
  one_of(schedule.warmup_steps, schedule.warmup_ratio, "warmup");
  one_of(schedule.decay_steps, schedule.decay_ratio, "decay");
}

}  // namespace

void validate(const ModelConfig& config) { check_model(config); }

void validate(const RunConfig& config) {
  check_unused(config);
  check_model(config.model);
  check_data(config.data, config.model.vocab_size);
  check_train(config.train);
  check_schedule(config.schedule);
}

}  // namespace transxssm
