// Numbers, bounds, lists and meanings as text.
#include "config/valid_text.h"

#include <array>
#include <charconv>
#include <cmath>

namespace transxssm {

std::string number_text(double value, bool point) {
  std::array<char, 64> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  std::string text(buffer.data(), result.ptr);
  const size_t exponent = text.find('e');
  // 1.0e-08, not 1e-08: YAML 1.1 readers take the latter for text.
  if (point && text.find('.') == std::string::npos) {
    text.insert(exponent == std::string::npos ? text.size() : exponent, ".0");
  }
  return text;
}

std::string doc_text(const Field& field) {
  std::vector<std::string> variants;
  for (const char* variant : field.only_with.variants)
    if (variant != nullptr) variants.emplace_back(variant);
  return variants.empty()
             ? field.doc
             : concat(field.doc, " Only with `", field.only_with.choice, ": ", join(variants, " | "), "`.");
}

std::string bounds_text(const Bounds& bounds) {
  const bool has_min = std::isfinite(bounds.min);
  const bool has_max = std::isfinite(bounds.max);
  const auto text = [](double x) {
    const bool integral = std::abs(x) < 1e15 && x == std::floor(x);
    return integral ? std::to_string(static_cast<int64_t>(x)) : number_text(x);
  };
  if (has_min && has_max && (bounds.min_open || bounds.max_open)) {
    return std::string(" in ") + (bounds.min_open ? "(" : "[") + text(bounds.min) + ", " + text(bounds.max) +
           (bounds.max_open ? ")" : "]");
  }
  if (has_min && has_max) return " from " + text(bounds.min) + " to " + text(bounds.max);
  if (has_min) return (bounds.min_open ? " > " : " ≥ ") + text(bounds.min);
  if (has_max) return (bounds.max_open ? " < " : " ≤ ") + text(bounds.max);
  return "";
}

std::string join(const std::vector<std::string>& parts, const std::string& separator) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : separator) + part;
  return text;
}

}  // namespace transxssm
