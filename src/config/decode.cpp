// A tree to a RunConfig: each field's type, bounds and spelling.
#include "config/decode.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <regex>

#include "config/valid_text.h"
#include "config/walk.h"
#include "core/check.h"
#include "core/nearest.h"

namespace transxssm {
namespace {

[[noreturn]] void fail(const Tree& tree, const std::string& key, const std::string& message) {
  throw InputError(concat(tree.where, ": ", key, ": ", message));
}

std::string shown(const Tree& tree) {
  if (tree.kind == Tree::Kind::list) return "a list";
  if (tree.kind == Tree::Kind::map) return "a mapping";
  return (tree.quoted ? "the text '" : "'") + tree.text + "'";
}

// What a plain (unquoted) scalar would be in YAML, if not text.
bool is_plain_non_text(const std::string& text) {
  static const std::regex other(
      R"(|~|null|Null|NULL|true|True|TRUE|false|False|FALSE|)"
      R"([-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))");
  return std::regex_match(text, other);
}

// Digits only: 010 and 1e3 mean different things to different YAML readers.
template <class Int>
std::optional<Int> parse_integer(const std::string& text) {
  static const std::regex form(R"(-?(0|[1-9]\d*))");
  Int value = 0;
  if (!std::regex_match(text, form)) return std::nullopt;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc()) return std::nullopt;
  return value;
}

std::optional<double> parse_number(const std::string& text) {
  static const std::regex form(R"([-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)");
  if (!std::regex_match(text, form)) return std::nullopt;
  const char* begin = text.data() + (text.front() == '+' ? 1 : 0);  // from_chars takes no plus sign
  double value = 0;
  const auto result = std::from_chars(begin, text.data() + text.size(), value);
  if (result.ec != std::errc() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::string expand(const Tree& tree, const std::string& key) {
  static const std::regex name_form("[A-Za-z_][A-Za-z0-9_]*");
  std::string result;
  size_t at = 0;
  for (size_t open; (open = tree.text.find("${", at)) != std::string::npos;) {
    const size_t close = tree.text.find('}', open);
    const std::string name = close == std::string::npos ? "" : tree.text.substr(open + 2, close - open - 2);
    if (!std::regex_match(name, name_form)) fail(tree, key, "expected ${NAME} in '" + tree.text + "'");
    const char* value = std::getenv(name.c_str());
    if (value == nullptr) fail(tree, key, "the environment variable " + name + " is not set");
    result += tree.text.substr(at, open - at) + value;
    at = close + 1;
  }
  result += tree.text.substr(at);
  // A stored configuration is read again: what it holds must not be expanded a second time.
  if (result.find("${") != std::string::npos) fail(tree, key, "'${' left after expansion: " + result);
  return result;
}

class Decoder {
 public:
  explicit Decoder(bool expand_variables) : expand_variables_(expand_variables) {}

  template <Section T>
  void section(const Tree& tree, const std::string& key, T& out) const {
    if (tree.kind != Tree::Kind::map) {
      fail(tree, key, concat("expected keys (", join(field_names(out)), "), got ", shown(tree)));
    }
    check_keys(tree, key, field_names(out));
    visit_fields(
        out, [&](const Field& field, auto& value) { member(tree, join_key(key, field.name), field, value); });
  }

 private:
  void check_keys(const Tree& tree, const std::string& key, const std::vector<std::string>& valid) const {
    for (const Tree& child : tree.children) {
      if (std::find(valid.begin(), valid.end(), child.key) != valid.end()) continue;
      fail(child, join_key(key, child.key),
           concat("unknown key.", did_you_mean(child.key, valid), " Valid here: ", join(valid)));
    }
  }

  template <class T>
  void member(const Tree& parent, const std::string& key, const Field& field, T& out) const {
    const Tree* found = parent.child(field.name);
    if constexpr (Section<T>) {
      Tree absent;
      absent.where = parent.where;
      section(found != nullptr ? *found : absent, key, out);
    } else if (found != nullptr) {
      value(*found, key, field, out);
    } else if (field.required) {
      fail(parent, key, concat("is required (", valid_text(field, out), ")"));
    }
  }

  template <class T>
  [[noreturn]] static void wrong(const Tree& tree, const std::string& key, const Field& field, const T& out,
                                 const std::string& hint = "") {
    fail(tree, key, concat("expected ", valid_text(field, out), ", got ", shown(tree), hint));
  }

  static bool is_plain(const Tree& tree) { return tree.kind == Tree::Kind::scalar && !tree.quoted; }

  template <class Int>
  requires std::same_as<Int, int64_t> || std::same_as<Int, uint64_t>
  void value(const Tree& tree, const std::string& key, const Field& field, Int& out) const {
    const auto parsed = is_plain(tree) ? parse_integer<Int>(tree.text) : std::nullopt;
    const bool other_number = is_plain(tree) && parse_number(tree.text).has_value();
    const bool has_exponent = tree.text.find_first_of(".eE") != std::string::npos;
    if (!parsed) wrong(tree, key, field, out, other_number && has_exponent ? "; write all digits" : "");
    out = parsed.value_or(0);
    if (!field.bounds.contains(static_cast<double>(out))) wrong(tree, key, field, out);
  }

  void value(const Tree& tree, const std::string& key, const Field& field, double& out) const {
    const auto parsed = is_plain(tree) ? parse_number(tree.text) : std::nullopt;
    if (!parsed || !field.bounds.contains(*parsed)) wrong(tree, key, field, out);
    out = *parsed;
  }

  void value(const Tree& tree, const std::string& key, const Field& field, std::optional<double>& out) const {
    value(tree, key, field, out.emplace());
  }

  void value(const Tree& tree, const std::string& key, const Field& field, bool& out) const {
    if (!is_plain(tree) || (tree.text != "true" && tree.text != "false")) wrong(tree, key, field, out);
    out = tree.text == "true";
  }

  void value(const Tree& tree, const std::string& key, const Field& field, std::string& out) const {
    if (tree.kind != Tree::Kind::scalar) wrong(tree, key, field, out);
    if (!tree.quoted && is_plain_non_text(tree.text)) {
      wrong(tree, key, field, out, ", which is not text: put it in quotes");
    }
    out = field.path && expand_variables_ ? expand(tree, key) : tree.text;
    if (find_bad_text(out, /*multiline=*/false) != std::string::npos) {
      fail(tree, key, "expected UTF-8 text without control characters");
    }
  }

  template <NamedEnum E>
  void value(const Tree& tree, const std::string& key, const Field& field, E& out) const {
    for (const auto& entry : enum_names(out)) {
      if (tree.kind != Tree::Kind::scalar || tree.text != entry.name) continue;
      out = entry.value;
      return;
    }
    wrong(tree, key, field, out);
  }

  void value(const Tree& tree, const std::string& key, const Field& field, std::vector<double>& out) const {
    const bool may_be_empty = out.empty();
    const size_t count = tree.children.size();
    if (tree.kind != Tree::Kind::list || !(count == field.size || (count == 0 && may_be_empty))) {
      wrong(tree, key, field, out, tree.kind == Tree::Kind::list ? concat(" of ", count) : "");
    }
    out.resize(count);
    for (size_t i = 0; i < count; ++i) value(tree.children[i], concat(key, "[", i, "]"), field, out[i]);
  }

  void value(const Tree& tree, const std::string& key, const Field& field, std::vector<int64_t>& out) const {
    if (tree.kind != Tree::Kind::list) wrong(tree, key, field, out);
    out.clear();
    for (size_t i = 0; i < tree.children.size(); ++i)
      value(tree.children[i], concat(key, "[", i, "]"), field, out.emplace_back());
  }

  template <Section T>
  void value(const Tree& tree, const std::string& key, const Field& field, std::vector<T>& out) const {
    if (tree.kind != Tree::Kind::list) wrong(tree, key, field, out);
    out.clear();
    for (size_t i = 0; i < tree.children.size(); ++i) {
      section(tree.children[i], concat(key, "[", i, "]"), out.emplace_back());
    }
  }

  bool expand_variables_;
};

}  // namespace

RunConfig decode(const Tree& root, bool expand_variables) {
  RunConfig config;
  Decoder(expand_variables).section(root, "", config);
  return config;
}

std::string did_you_mean(const std::string& key, const std::vector<std::string>& siblings) {
  std::string meant;
  // The right name in the wrong section.
  walk_leaves(RunConfig{}, [&](const std::string& dotted, const Field& field, const auto&, Effect) {
    if (key == field.name && meant.empty()) meant = dotted;
  });
  if (meant.find('.') == std::string::npos) {
    if (const std::string similar = nearest(key, siblings); !similar.empty()) meant = similar;
  }
  return meant.empty() ? "" : " Did you mean " + meant + "?";
}

}  // namespace transxssm
