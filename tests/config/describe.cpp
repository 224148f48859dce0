// JSON Schema and docs/config.md come from the same fields as loading.
#include <algorithm>
#include <fstream>
#include <sstream>

#include "config/load.h"
#include "config/walk.h"
#include "support/catch.h"
#include "support/source_dir.h"

using namespace transxssm;

namespace {

// The schema below dotted `key`, following objects and the items of lists.
nlohmann::json schema_at(const std::string& key) {
  nlohmann::json schema = config_schema();
  std::istringstream names(key);
  for (std::string name; std::getline(names, name, '.');) {
    if (schema.contains("items")) schema = nlohmann::json(schema.at("items"));
    schema = nlohmann::json(schema.at("properties").at(name));
  }
  return schema;
}

void check_closed(const nlohmann::json& schema) {
  if (schema.value("type", "") == "array" && schema.contains("items")) check_closed(schema.at("items"));
  if (schema.value("type", "") != "object") return;
  CHECK(schema.at("additionalProperties") == false);
  for (const auto& [name, property] : schema.at("properties").items()) {
    INFO(name);
    CHECK_FALSE(property.at("description").get<std::string>().empty());
    check_closed(property);
  }
}

}  // namespace

TEST_CASE("config schema: every object is closed and every field described") {
  check_closed(config_schema());
}

TEST_CASE("config schema: every field is there with its type, bounds and default") {
  walk_leaves(RunConfig{}, [](const std::string& key, const Field&, const auto&, Effect) {
    INFO(key);
    CHECK_NOTHROW(schema_at(key));
  });
  CHECK(schema_at("model.num_layers").at("type") == "integer");
  CHECK(schema_at("model.num_layers").at("minimum") == 1);
  CHECK(schema_at("model.num_layers").at("default") == 32);
  CHECK(schema_at("optimizer.lr").at("exclusiveMinimum") == 0.0);
  CHECK(schema_at("optimizer.betas").at("items").at("exclusiveMaximum") == 1.0);
  CHECK(schema_at("optimizer.betas").at("minItems") == 2);
  CHECK(schema_at("train.device").at("enum") == nlohmann::json({"auto", "cpu", "cuda"}));
  CHECK(schema_at("train.deterministic").at("type") == "boolean");
  CHECK(schema_at("data.train.weight").at("exclusiveMinimum") == 0.0);
  CHECK(schema_at("data.train").at("items").at("required") == nlohmann::json({"path"}));
  CHECK(config_schema().at("required") == nlohmann::json({"data", "train"}));
  CHECK(config_schema().at("$schema") == "https://json-schema.org/draft/2020-12/schema");
}

TEST_CASE("config: fields of certain variants name values that their section's choice has, and say so") {
  size_t fields = 0;
  walk_leaves(RunConfig{}, [&](const std::string& key, const Field& field, const auto&, Effect) {
    const std::string choice = field.only_with.choice;
    if (choice.empty()) return;
    INFO(key);
    ++fields;
    const auto values = schema_at(key.substr(0, key.rfind('.') + 1) + choice).at("enum");
    size_t used = 0;
    for (const char* variant : field.only_with.variants) {
      if (variant == nullptr) continue;
      ++used;
      CHECK(std::find(values.begin(), values.end(), variant) != values.end());
    }
    CHECK(used > 0);
    CHECK(used < values.size());
    const std::string description = schema_at(key).at("description");
    CHECK(description.find(" Only with `" + choice + ": ") != std::string::npos);
  });
  CHECK(fields == 14);
}

TEST_CASE("docs/config.md is what `config markdown` prints") {
  std::ifstream file(test::kSourceDir / "docs" / "config.md");
  std::stringstream text;
  text << file.rdbuf();
  CHECK(text.str() == config_markdown());
}
