// In words: what a field means and what values it takes. For error messages, JSON Schema and docs/config.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/fields.h"
#include "config/walk.h"
#include "core/check.h"

namespace transxssm {

// The shortest decimal text that reads back as the same double; "2" for 2, or "2.0" when `point`.
std::string number_text(double value, bool point = false);

// " ≥ 1", " > 0", " 1 to 10", " in [0, 1)", or nothing.
std::string bounds_text(const Bounds& bounds);

// "a, b, c" with another separator if wanted.
std::string join(const std::vector<std::string>& parts, const std::string& separator = ", ");

// The meaning, with the variants that use the field.
std::string doc_text(const Field& field);

inline std::string valid_text(const Field& field, int64_t) {
  return concat("integer", bounds_text(field.bounds));
}
inline std::string valid_text(const Field&, uint64_t) { return concat("integer", bounds_text(at_least(0))); }
inline std::string valid_text(const Field& field, double) {
  return concat("number", bounds_text(field.bounds));
}
inline std::string valid_text(const Field&, bool) { return "true or false"; }
inline std::string valid_text(const Field& field, const std::string&) { return field.path ? "path" : "text"; }
inline std::string valid_text(const Field& field, const std::optional<double>&) {
  return valid_text(field, 0.0);
}

inline std::string valid_text(const Field& field, const std::vector<double>& value) {
  const std::string text = concat("list of ", field.size, " numbers", bounds_text(field.bounds));
  return value.empty() ? text + ", or []" : text;
}

inline std::string valid_text(const Field& field, const std::vector<int64_t>&) {
  return concat("list of integers", bounds_text(field.bounds));
}

template <Section T>
std::string valid_text(const Field&, const std::vector<T>&) {
  return concat("list of {", join(field_names(T{})), "}");
}

template <NamedEnum E>
std::string valid_text(const Field&, E value) {
  std::vector<std::string> names;
  for (const auto& entry : enum_names(value)) names.emplace_back(entry.name);
  return join(names, " | ");
}

}  // namespace transxssm
