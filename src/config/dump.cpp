// A configuration as YAML and JSON.
#include <cctype>
#include <optional>
#include <regex>

#include "config/load.h"
#include "config/valid_text.h"
#include "config/walk.h"
#include "core/check.h"

namespace transxssm {
namespace {

// Keeps the order of the fields.
using Json = nlohmann::ordered_json;

template <class T>
Json encode(const T& value);

Json encode(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

template <Section T>
Json encode(const std::vector<T>& value) {
  Json list = Json::array();
  for (const T& element : value) list.push_back(encode(element));
  return list;
}

template <class T>
Json encode(const T& value) {
  if constexpr (Section<T>) {
    Json object = Json::object();
    visit_fields(value, [&](const Field& field, const auto& member) {
      Json encoded = encode(member);
      if (!encoded.is_null()) object[field.name] = std::move(encoded);  // null: a source without a weight
    });
    return object;
  } else if constexpr (NamedEnum<T>) {
    return enum_name(value);
  } else {
    return value;
  }
}

std::string yaml_text(const std::string& text) {
  static const std::regex plain(R"([A-Za-z_./][A-Za-z0-9_./-]*)");
  static const std::regex other_meaning(R"(y|n|yes|no|on|off|true|false|null|[-+]?\.(inf|nan)|\.[0-9].*)",
                                        std::regex::icase);
  if (std::regex_match(text, plain) && !std::regex_match(text, other_meaning)) return text;
  return Json(text).dump();
}

// Lists and what is in them, on one line.
std::string yaml_flow(const Json& value) {
  std::vector<std::string> parts;
  if (value.is_array()) {
    for (const Json& element : value) parts.push_back(yaml_flow(element));
    return concat("[", join(parts), "]");
  }
  if (value.is_object()) {
    for (const auto& [name, element] : value.items()) parts.push_back(name + ": " + yaml_flow(element));
    return concat("{", join(parts), "}");
  }
  if (value.is_number_float()) return number_text(value.get<double>(), /*point=*/true);
  return value.is_string() ? yaml_text(value.get<std::string>()) : value.dump();
}

void write_yaml(const Json& object, const std::string& indent, std::string& out) {
  for (const auto& [name, value] : object.items()) {
    out += indent + name + ":";
    if (value.is_object()) {
      out += "\n";
      write_yaml(value, indent + "  ", out);
    } else {
      out += concat(" ", yaml_flow(value), "\n");
    }
  }
}

}  // namespace

std::string to_yaml(const RunConfig& config) {
  Json tree = encode(config);
  if (!config.model.layers.pattern.empty()) {  // beside a pattern these may not be given
    tree["model"]["layers"].erase("attention_period");
    tree["model"]["layers"].erase("attention_offset");
  }
  std::string text;
  write_yaml(tree, "", text);
  return text;
}

nlohmann::json to_json(const RunConfig& config) { return nlohmann::json::parse(encode(config).dump()); }

nlohmann::json to_json(const ModelConfig& config) { return nlohmann::json::parse(encode(config).dump()); }

}  // namespace transxssm
