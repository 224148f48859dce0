// From file and overrides to a checked configuration.
#include "config/load.h"

#include <algorithm>

#include "config/decode.h"
#include "config/rule_error.h"
#include "config/tree.h"
#include "config/unused.h"
#include "core/check.h"
#include "core/logging.h"

namespace transxssm {
namespace {

// Two ways to say one thing. Both in one file are an error; an override of one replaces the file's other.
struct Alternatives {
  std::vector<std::string> one;
  std::vector<std::string> other;
};

const std::vector<Alternatives>& alternatives() {
  static const std::vector<Alternatives> all = {
      {{"model.layers.pattern"}, {"model.layers.attention_period", "model.layers.attention_offset"}},
      {{"schedule.warmup_steps"}, {"schedule.warmup_ratio"}},
      {{"schedule.decay_steps"}, {"schedule.decay_ratio"}},
      {{"data.split"}, {"data.validation"}},
      {{"data.tokenizer"}, {"data.eod_id"}},
  };
  return all;
}

bool is_empty(const Tree& value) { return value.children.empty() && value.text.empty(); }

bool holds(const std::vector<std::string>& keys, const std::string& key) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

// Drops from the file's tree what the override says in other words. An empty value ('' or []) says nothing.
void drop_alternatives(Tree& root, const Override& change) {
  if (is_empty(change.value)) return;
  for (const auto& [one, other] : alternatives()) {
    if (holds(one, change.key)) {
      for (const std::string& key : other) root.erase(key);
    }
    if (holds(other, change.key)) {
      for (const std::string& key : one) root.erase(key);
    }
  }
}

bool sets(const std::vector<Override>& changes, const std::string& key) {
  return std::any_of(changes.begin(), changes.end(),
                     [&](const Override& change) { return change.key == key; });
}

// Drops from the file's tree what a variant that an override chose does not use, and says so.
void drop_unused(Tree& root, const RunConfig& config, const std::vector<Override>& changes) {
  for (const UnusedField& field : unused_fields(config)) {
    const Tree* given = root.find(field.key);
    if (given == nullptr || !sets(changes, field.choice) || sets(changes, field.key)) continue;
    if (!field.has_default)
      log_info(concat(given->where, ": ", field.key, " is left out: it has no effect with ", field.reason));
    root.erase(field.key);
  }
}

// Period and offset have defaults, so only the tree knows whether they were given beside a pattern.
void check_pattern_alone(const Tree& root) {
  const Tree* pattern = root.find("model.layers.pattern");
  if (pattern == nullptr || is_empty(*pattern)) return;
  for (const char* key : {"model.layers.attention_period", "model.layers.attention_offset"}) {
    if (const Tree* given = root.find(key)) {
      throw InputError(
          concat(given->where, ": ", key, ": pattern is given too (", pattern->where, "); keep one"));
    }
  }
}

// Where a key was given, or where its nearest given parent was, or the file.
std::string place_of(const Tree& root, std::string key) {
  while (!key.empty()) {
    if (const Tree* node = root.find(key)) return node->where;
    const size_t dot = key.rfind('.');
    key.resize(dot == std::string::npos ? 0 : dot);
  }
  return root.where;
}

}  // namespace

RunConfig load_config(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  Tree root = read_yaml_tree(file);
  root.where = file.string();
  std::vector<Override> changes;
  for (const std::string& text : overrides) changes.push_back(parse_override(text));
  for (const Override& change : changes) drop_alternatives(root, change);
  for (const Override& change : changes) apply_override(root, change);

  drop_unused(root, decode(root, /*expand_variables=*/true), changes);
  RunConfig config = decode(root, /*expand_variables=*/true);
  check_pattern_alone(root);
  try {
    validate(config);
  } catch (const RuleError& error) {
    throw InputError(concat(place_of(root, error.key), ": ", error.what()));
  }
  return config;
}

RunConfig config_from_json(const nlohmann::json& tree) {
  const std::string where = "stored configuration";
  if (!tree.is_object()) throw InputError(where + ": expected a JSON object with model, data, train");
  return decode(tree_of_json(tree, where), /*expand_variables=*/false);
}

}  // namespace transxssm
