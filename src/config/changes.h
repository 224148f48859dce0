// What differs between two configurations, for the explanation a resumed run gives.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace transxssm {

// Dotted keys of the fields that differ between two to_json() trees, sorted; a field that one of them lacks
// differs. A list is one field.
std::vector<std::string> changed_fields(const nlohmann::json& before, const nlohmann::json& after);

// Whether another value of this field changes what a resumed run computes (● in docs/config.md) and so needs
// --allow-change. True for keys that are not fields. False for train.max_steps: whether that may change
// depends on how far the run is.
bool changes_mathematics(const std::string& dotted_key);

// Throws InputError, with the nearest field, when a key given with `flag` is none.
void expect_fields(const std::string& flag, const std::vector<std::string>& dotted_keys);

}  // namespace transxssm
