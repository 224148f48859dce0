// YAML text to trees. The only file that sees yaml-cpp.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <regex>

#include <yaml-cpp/yaml.h>

#include "config/tree.h"
#include "core/check.h"

namespace transxssm {
namespace {

// Far above any configuration; stops a reader that was given a data file or a device.
constexpr size_t kMaxFileBytes = 4 << 20;

// A configuration nests four deep; aliases may refer to what holds them, or multiply without end.
constexpr int kMaxDepth = 16;
constexpr int kMaxNodes = 100000;

// `place` gives a line's name: "FILE:LINE", or the override whatever the line.
using Place = std::function<std::string(const YAML::Mark&)>;

class Converter {
 public:
  explicit Converter(Place place) : place_(std::move(place)) {}

  Tree convert(const YAML::Node& node, int depth = 0) {
    Tree tree;
    tree.where = place_(node.Mark());
    if (depth > kMaxDepth || ++nodes_ > kMaxNodes)
      throw InputError(tree.where + ": nested too deeply or too large");
    const std::string& tag = node.Tag();
    if (!tag.empty() && tag != "?" && tag != "!") {
      throw InputError(concat(tree.where, ": YAML tags such as ", tag, " are not supported; remove it"));
    }
    if (node.IsMap()) {
      for (const auto& entry : node) add_member(entry.first, entry.second, depth, tree);
    } else if (node.IsSequence()) {
      tree.kind = Tree::Kind::list;
      for (const auto& element : node) tree.children.push_back(convert(element, depth + 1));
    } else {
      tree.kind = Tree::Kind::scalar;
      tree.text = node.IsScalar() ? node.Scalar() : "null";
      tree.quoted = tag == "!";
    }
    return tree;
  }

 private:
  void add_member(const YAML::Node& name, const YAML::Node& value, int depth, Tree& map) {
    const std::string where = place_(name.Mark());
    if (!name.IsScalar()) throw InputError(where + ": a key must be a name");
    const std::string& key = name.Scalar();
    if (const Tree* before = map.child(key)) {
      throw InputError(
          concat(where, ": repeated key '", key, "', first given at ", before->where, "; keep one of them"));
    }
    Tree member = convert(value, depth + 1);
    member.key = key;
    member.where = where;  // an alias or a null value has no useful line of its own
    map.children.push_back(std::move(member));
  }

  Place place_;
  int nodes_ = 0;
};

std::string read_text(const std::filesystem::path& file) {
  const std::string name = file.string();
  std::error_code ignored;
  if (std::filesystem::is_directory(file, ignored))
    throw InputError(name + ": is a folder; expected a YAML file");
  errno = 0;
  std::ifstream in(file, std::ios::binary);
  if (!in) throw InputError(concat(name, ": cannot open the configuration: ", std::strerror(errno)));
  std::string text(kMaxFileBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) throw InputError(concat(name, ": cannot read the configuration: ", std::strerror(errno)));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMaxFileBytes) throw InputError(name + ": larger than 4 MiB; is this a configuration?");
  const size_t bad = find_bad_text(text, /*multiline=*/true);
  if (bad != std::string::npos) {
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(bad), '\n');
    throw InputError(concat(name, ":", line, ": not UTF-8 text; is this a YAML file?"));
  }
  return text;
}

// yaml-cpp's own message ends in the reason; the line is given in our form.
std::string syntax_error(const YAML::Exception& error) {
  return concat("YAML syntax: ", error.msg, " (column ", error.mark.column + 1, ")");
}

}  // namespace

Tree read_yaml_tree(const std::filesystem::path& file) {
  const std::string name = file.string();
  const Place place = [&](const YAML::Mark& mark) {
    return mark.line < 0 ? name : concat(name, ":", mark.line + 1);
  };
  const std::string text = read_text(file);
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.empty() || documents.front().IsNull()) throw InputError(name + ": is empty");
    if (documents.size() > 1) throw InputError(name + ": holds several YAML documents (---); expected one");
    if (!documents.front().IsMap())
      throw InputError(name + ":1: expected `key: value` sections, such as `model:`");
    return Converter(place).convert(documents.front());
  } catch (const YAML::Exception& error) {
    throw InputError(concat(place(error.mark), ": ", syntax_error(error)));
  }
}

Override parse_override(const std::string& text) {
  static const std::regex form(R"(([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)=([^]*))");
  const std::string where = "--set " + text;
  std::smatch match;
  if (!std::regex_match(text, match, form)) {
    throw InputError(where + ": expected key.key=value, for example train.max_steps=200");
  }
  Override result{.key = match[1], .value = {}};
  const std::string value = match[2];
  if (find_bad_text(value, /*multiline=*/true) != std::string::npos)
    throw InputError(where + ": not UTF-8 text");
  try {
    if (value.empty()) {  // --set data.tokenizer= : the empty text
      result.value.kind = Tree::Kind::scalar;
      result.value.quoted = true;
    } else {
      result.value =
          Converter([&](const YAML::Mark&) { return std::string(where); }).convert(YAML::Load(value));
    }
  } catch (const YAML::Exception& error) {
    throw InputError(concat(where, ": ", syntax_error(error)));
  }
  if (result.value.kind == Tree::Kind::map) {
    throw InputError(
        concat(where, ": overrides set one field each, for example --set ", result.key, ".KEY=VALUE"));
  }
  result.value.where = where;
  return result;
}

}  // namespace transxssm
