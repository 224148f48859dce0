// The parsed tree of a configuration, apart from YAML: lookup, overrides, JSON, text checks.
#include "config/tree.h"

#include <algorithm>
#include <utility>

#include "core/check.h"

namespace transxssm {
namespace {

std::pair<std::string_view, std::string_view> split_key(std::string_view dotted_key) {
  const size_t dot = dotted_key.find('.');
  if (dot == std::string_view::npos) return {dotted_key, {}};
  return {dotted_key.substr(0, dot), dotted_key.substr(dot + 1)};
}

// Length of the UTF-8 sequence at the start of `text`, 0 when it is none (RFC 3629: no overlong forms, no
// surrogates).
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) -> unsigned {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const auto continues = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool overlong = lead == 0xE0 && byte(1) < 0xA0;
    const bool surrogate = lead == 0xED && byte(1) > 0x9F;
    return continues(1) && continues(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool overlong = lead == 0xF0 && byte(1) < 0x90;
    const bool beyond = lead == 0xF4 && byte(1) > 0x8F;
    return continues(1) && continues(2) && continues(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

bool is_control(char c, bool multiline) {
  const auto byte = static_cast<unsigned char>(c);
  if (multiline && (c == '\n' || c == '\r' || c == '\t')) return false;
  return byte < 0x20 || byte == 0x7F;
}

}  // namespace

const Tree* Tree::child(std::string_view name) const {
  if (kind != Kind::map) return nullptr;
  const auto found =
      std::find_if(children.begin(), children.end(), [&](const Tree& c) { return c.key == name; });
  return found == children.end() ? nullptr : &*found;
}

const Tree* Tree::find(std::string_view dotted_key) const {
  const auto [first, rest] = split_key(dotted_key);
  const Tree* next = child(first);
  return next == nullptr || rest.empty() ? next : next->find(rest);
}

void Tree::erase(std::string_view dotted_key) {
  if (kind != Kind::map) return;
  const auto [first, rest] = split_key(dotted_key);
  if (rest.empty()) {
    std::erase_if(children, [name = first](const Tree& c) { return c.key == name; });
    return;
  }
  for (Tree& next : children) {
    if (next.key == first) next.erase(rest);
  }
}

void apply_override(Tree& root, const Override& change) {
  Tree* node = &root;
  std::string_view rest = change.key;
  while (!rest.empty()) {
    const auto [first, after] = split_key(rest);
    if (node->kind != Tree::Kind::map) {
      throw InputError(concat(change.value.where, ": ", change.key, ": no such key; '", node->key,
                              "' has no keys of its own and is replaced whole"));
    }
    const auto found = std::find_if(node->children.begin(), node->children.end(),
                                    [name = first](const Tree& c) { return c.key == name; });
    if (found != node->children.end()) {
      node = &*found;
    } else {
      node = &node->children.emplace_back();
      node->key = first;
      node->where = change.value.where;
    }
    rest = after;
  }
  const std::string key = node->key;
  *node = change.value;
  node->key = key;
}

Tree tree_of_json(const nlohmann::json& value, const std::string& where) {
  Tree tree;
  tree.where = where;
  if (value.is_object()) {
    for (const auto& [name, element] : value.items()) {
      tree.children.push_back(tree_of_json(element, where));
      tree.children.back().key = name;
    }
  } else if (value.is_array()) {
    tree.kind = Tree::Kind::list;
    for (const auto& element : value) tree.children.push_back(tree_of_json(element, where));
  } else {
    tree.kind = Tree::Kind::scalar;
    tree.quoted = value.is_string();
    tree.text = value.is_string() ? value.get<std::string>() : value.dump();
  }
  return tree;
}

size_t find_bad_text(std::string_view text, bool multiline) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text.substr(at));
    if (length == 0 || is_control(text[at], multiline)) return at;
    at += length;
  }
  return std::string_view::npos;
}

}  // namespace transxssm
