// What a configuration field is: name, meaning, unit, valid values. Each struct of the configuration lists
// its fields once, in a visit_fields() beside it; loading, dumping, JSON Schema and docs/config.md all walk
// that list. The default is the member's initialiser.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <limits>
#include <type_traits>

namespace transxssm {

// Valid numbers: an interval whose ends may be open. For a list, of each element.
struct Bounds {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool min_open = false;
  bool max_open = false;

  constexpr bool contains(double x) const {
    return (min_open ? x > min : x >= min) && (max_open ? x < max : x <= max);
  }
};

constexpr Bounds at_least(double min) { return {.min = min}; }
constexpr Bounds above(double min) { return {.min = min, .min_open = true}; }
constexpr Bounds between(double min, double max) { return {.min = min, .max = max}; }
constexpr Bounds below_one() { return {.min = 0, .max = 1, .max_open = true}; }
constexpr Bounds inside_unit() { return {.min = 0, .max = 1, .min_open = true, .max_open = true}; }

// Whether a resumed run with another value computes something else (and so needs --allow-change).
enum class Effect { inherit, none, mathematics };

// Where one field chooses a variant, the variants that use another field of its section. Empty: all do.
struct OnlyWith {
  const char* choice = "";                   // the field that chooses, an enum
  std::array<const char*, 4> variants = {};  // names of its values
};

struct Field {
  const char* name = "";
  const char* doc = "";
  const char* unit = "";
  Bounds bounds = {};
  size_t size = 0;                  // elements of a list of numbers
  bool path = false;                // ${VAR} is expanded
  bool required = false;            // has no default
  OnlyWith only_with = {};          // without these variants it keeps its default
  Effect effect = Effect::inherit;  // `inherit`: as the section's
};

// The names of an enum's values, given by an overload of enum_names() beside the enum.
template <class E>
struct EnumName {
  E value;
  const char* name;
};

template <class E>
concept NamedEnum = std::is_enum_v<E> && requires(E e) {
  enum_names(e);
};

template <NamedEnum E>
constexpr const char* enum_name(E value) {
  for (const auto& entry : enum_names(value)) {
    if (entry.value == value) return entry.name;
  }
  return "?";
}

// The Self of a visit_fields(): T or const T.
template <class Self, class T>
concept SelfOf = std::same_as<std::remove_const_t<Self>, T>;

// A struct with a visit_fields().
template <class T>
concept Section = requires(T& section) {
  visit_fields(section, [](const Field&, auto&) {});
};

}  // namespace transxssm
