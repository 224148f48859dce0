// YAML files and --set overrides to structs, strictly; and back.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "config/run_config.h"

namespace transxssm {

// Reads `file`, applies overrides "a.b=value" in order, checks every field and the rules across fields.
// Throws InputError that names file, line, key and the nearest valid key or the valid values. An override of
// one of two alternatives (pattern or attention_period, warmup_steps or warmup_ratio, ...) takes the place of
// the other one; an override that chooses a variant (schedule.type, ...) drops what the file gives for fields
// that this variant does not use.
RunConfig load_config(const std::filesystem::path& file, const std::vector<std::string>& overrides = {});

// The resolved configuration: complete YAML (loads to the same struct) and the same tree as JSON.
std::string to_yaml(const RunConfig& config);
nlohmann::json to_json(const RunConfig& config);
nlohmann::json to_json(const ModelConfig& config);

// The struct back from to_json, as stored in checkpoints: types and bounds are checked, rules across fields
// are not; fields that are missing (an older version's) get their defaults. Throws InputError on a foreign or
// damaged tree.
RunConfig config_from_json(const nlohmann::json& tree);

// Rules across fields (divisibility, pattern, data against model); throws InputError naming the keys.
void validate(const RunConfig& config);
void validate(const ModelConfig& config);

// JSON Schema (draft 2020-12) of the YAML file, for editors; and docs/config.md.
nlohmann::json config_schema();
std::string config_markdown();

}  // namespace transxssm
