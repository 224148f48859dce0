// Walking the fields of a configuration: used by everything that describes or prints it.
#pragma once

#include <string>
#include <type_traits>

#include "config/fields.h"

namespace transxssm {

inline std::string join_key(const std::string& section, const std::string& name) {
  return section.empty() ? name : section + "." + name;
}

// Calls leaf(dotted key, field, value, effect) for every field below `section` that is not a section itself,
// in order.
template <Section T, class Leaf>
void walk_leaves(const T& section, const std::string& prefix, Effect effect, Leaf&& leaf) {
  visit_fields(section, [&](const Field& field, const auto& value) {
    const std::string key = join_key(prefix, field.name);
    const Effect own = field.effect == Effect::inherit ? effect : field.effect;
    if constexpr (Section<std::remove_cvref_t<decltype(value)>>) {
      walk_leaves(value, key, own, leaf);
    } else {
      leaf(key, field, value, own);
    }
  });
}

template <Section T, class Leaf>
void walk_leaves(const T& root, Leaf&& leaf) {
  walk_leaves(root, "", Effect::none, leaf);
}

// Names of a section's fields.
template <Section T>
std::vector<std::string> field_names(const T& section) {
  std::vector<std::string> names;
  visit_fields(section, [&](const Field& field, const auto&) { names.emplace_back(field.name); });
  return names;
}

}  // namespace transxssm
