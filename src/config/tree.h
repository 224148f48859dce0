// A configuration before its fields are known: the parsed tree of a file, of overrides or of stored JSON,
// each node with the place it came from. Decoding (config/decode.h) gives it meaning.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace transxssm {

struct Tree {
  enum class Kind { scalar, list, map };
  Kind kind = Kind::map;
  std::string key;             // inside a map
  std::string text;            // of a scalar, as written
  bool quoted = false;         // a quoted scalar is text, whatever it looks like
  std::vector<Tree> children;  // of a list or a map
  std::string where;           // "FILE:LINE" or "--set KEY=VALUE"

  const Tree* child(std::string_view name) const;
  // The node at a dotted key, or null.
  const Tree* find(std::string_view dotted_key) const;
  // Removes the node at a dotted key if there is one.
  void erase(std::string_view dotted_key);
};

// Reads a YAML file. Throws InputError when it is missing, unreadable, not UTF-8, not one YAML mapping, or
// repeats a key.
Tree read_yaml_tree(const std::filesystem::path& file);

// One override "a.b=v".
struct Override {
  std::string key;
  Tree value;
};
Override parse_override(const std::string& text);

// Puts the override's value in the place of what the tree has at its key.
void apply_override(Tree& root, const Override& change);

// The tree of a JSON value; `where` stands for the place of every node.
Tree tree_of_json(const nlohmann::json& value, const std::string& where);

// UTF-8 without control characters (line breaks and tabs are allowed when `multiline`): offset of the first
// offending byte, or npos.
size_t find_bad_text(std::string_view text, bool multiline);

}  // namespace transxssm
