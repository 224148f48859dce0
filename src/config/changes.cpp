// What differs between two configurations.
#include "config/changes.h"

#include <set>

#include "config/decode.h"
#include "config/run_config.h"
#include "config/walk.h"
#include "core/check.h"

namespace transxssm {
namespace {

void add_changes(const nlohmann::json& before, const nlohmann::json& after, const std::string& key,
                 std::vector<std::string>& changed) {
  if (!before.is_object() || !after.is_object()) {
    if (before != after) changed.push_back(key);
    return;
  }
  std::set<std::string> names;
  for (const auto& [name, value] : before.items()) names.insert(name);
  for (const auto& [name, value] : after.items()) names.insert(name);
  const nlohmann::json absent;
  for (const std::string& name : names) {
    add_changes(before.value(name, absent), after.value(name, absent), join_key(key, name), changed);
  }
}

}  // namespace

std::vector<std::string> changed_fields(const nlohmann::json& before, const nlohmann::json& after) {
  std::vector<std::string> changed;
  add_changes(before, after, "", changed);
  return changed;
}

bool changes_mathematics(const std::string& dotted_key) {
  Effect effect = Effect::mathematics;
  walk_leaves(RunConfig{}, [&](const std::string& key, const Field&, const auto&, Effect own) {
    if (key == dotted_key) effect = own;
  });
  return effect == Effect::mathematics;
}

void expect_fields(const std::string& flag, const std::vector<std::string>& dotted_keys) {
  for (const std::string& wanted : dotted_keys) {
    const size_t name_begin = wanted.rfind('.') + 1;  // 0 without a dot
    bool found = false;
    std::vector<std::string> siblings;
    walk_leaves(RunConfig{}, [&](const std::string& key, const Field& field, const auto&, Effect) {
      found = found || key == wanted;
      if (key == wanted.substr(0, name_begin) + field.name) siblings.emplace_back(field.name);
    });
    expect_input(
        found, concat(flag, " ", wanted, ": is no field.", did_you_mean(wanted.substr(name_begin), siblings),
                      " Valid are keys such as train.max_steps (docs/config.md)"));
  }
}

}  // namespace transxssm
