// JSON Schema of the configuration file, for editors.
#include <cmath>
#include <optional>

#include "config/load.h"
#include "config/valid_text.h"
#include "config/walk.h"

namespace transxssm {
namespace {

using Json = nlohmann::json;

Json number_schema(const char* type, const Bounds& bounds) {
  const auto number = [&](double x) {
    return std::string(type) == "integer" ? Json(static_cast<int64_t>(x)) : Json(x);
  };
  Json schema = {{"type", type}};
  if (std::isfinite(bounds.min))
    schema[bounds.min_open ? "exclusiveMinimum" : "minimum"] = number(bounds.min);
  if (std::isfinite(bounds.max))
    schema[bounds.max_open ? "exclusiveMaximum" : "maximum"] = number(bounds.max);
  return schema;
}

Json value_schema(const Field& field, int64_t) { return number_schema("integer", field.bounds); }
Json value_schema(const Field&, uint64_t) { return number_schema("integer", at_least(0)); }
Json value_schema(const Field& field, double) { return number_schema("number", field.bounds); }
Json value_schema(const Field& field, const std::optional<double>&) {
  return number_schema("number", field.bounds);
}
Json value_schema(const Field&, bool) { return {{"type", "boolean"}}; }
Json value_schema(const Field&, const std::string&) { return {{"type", "string"}}; }

template <NamedEnum E>
Json value_schema(const Field&, E value) {
  Json names = Json::array();
  for (const auto& entry : enum_names(value)) names.push_back(entry.name);
  return {{"enum", names}};
}

Json value_schema(const Field& field, const std::vector<double>& value) {
  const Json items = number_schema("number", field.bounds);
  Json full = {{"type", "array"}, {"items", items}, {"minItems", field.size}, {"maxItems", field.size}};
  if (!value.empty()) return full;
  return {{"anyOf", Json::array({full, {{"type", "array"}, {"maxItems", 0}}})}};
}

Json value_schema(const Field& field, const std::vector<int64_t>&) {
  return {{"type", "array"}, {"items", number_schema("integer", field.bounds)}};
}

template <Section T>
Json section_schema(const T& section);

template <Section T>
Json value_schema(const Field&, const T& section) {
  return section_schema(section);
}

template <Section T>
Json value_schema(const Field&, const std::vector<T>&) {
  return {{"type", "array"}, {"items", section_schema(T{})}};
}

template <class T>
void add_default(Json& schema, const T& value) {
  if constexpr (NamedEnum<T>) {
    schema["default"] = enum_name(value);
  } else if constexpr (std::is_arithmetic_v<T> || std::same_as<T, std::string> ||
                       std::same_as<T, std::vector<double>> || std::same_as<T, std::vector<int64_t>>) {
    schema["default"] = value;
  }
}

template <Section T>
Json section_schema(const T& section) {
  Json properties = Json::object();
  Json required = Json::array();
  visit_fields(section, [&](const Field& field, const auto& value) {
    Json schema = value_schema(field, value);
    const std::string unit = field.unit;
    schema["description"] = doc_text(field) + (unit.empty() ? "" : " In " + unit + ".");
    if (!field.required) add_default(schema, value);
    // A section with a required key is required itself.
    if (field.required || (schema.contains("required") && !schema["required"].empty()))
      required.push_back(field.name);
    properties[field.name] = std::move(schema);
  });
  return {{"type", "object"},
          {"properties", properties},
          {"required", required},
          {"additionalProperties", false}};
}

}  // namespace

nlohmann::json config_schema() {
  Json schema = section_schema(RunConfig{});
  schema["$schema"] = "https://json-schema.org/draft/2020-12/schema";
  schema["title"] = "transxssm run configuration";
  return schema;
}

}  // namespace transxssm
