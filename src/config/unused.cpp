#include "config/unused.h"

#include <algorithm>
#include <map>

#include "config/walk.h"

namespace transxssm {
namespace {

// Names of the values of a section's enums, by field.
template <Section T>
std::map<std::string, std::string> choices(const T& section) {
  std::map<std::string, std::string> chosen;
  visit_fields(section, [&](const Field& field, const auto& value) {
    if constexpr (NamedEnum<std::remove_cvref_t<decltype(value)>>) chosen[field.name] = enum_name(value);
  });
  return chosen;
}

// Whether `value` is what the field `name` has in a section that nothing was set in.
template <Section T, class Value>
bool is_default(const std::string& name, const Value& value) {
  const T untouched;
  bool equal = false;
  visit_fields(untouched, [&](const Field& field, const auto& standard) {
    if constexpr (std::same_as<std::remove_cvref_t<decltype(standard)>, Value>)
      equal = equal || (field.name == name && standard == value);
  });
  return equal;
}

template <Section T>
void collect(const T& section, const std::string& prefix, std::vector<UnusedField>& found) {
  const auto chosen = choices(section);
  visit_fields(section, [&](const Field& field, const auto& value) {
    using Value = std::remove_cvref_t<decltype(value)>;
    const std::string key = join_key(prefix, field.name);
    if constexpr (Section<Value>) {
      collect(value, key, found);
    } else if (const std::string choice = field.only_with.choice; !choice.empty()) {
      const auto& users = field.only_with.variants;
      const std::string& variant = chosen.at(choice);
      if (std::any_of(users.begin(), users.end(), [&](const char* user) { return user && user == variant; }))
        return;
      found.push_back(
          {key, join_key(prefix, choice), choice + ": " + variant, is_default<T>(field.name, value)});
    }
  });
}

}  // namespace

std::vector<UnusedField> unused_fields(const RunConfig& config) {
  std::vector<UnusedField> found;
  collect(config, "", found);
  return found;
}

}  // namespace transxssm
