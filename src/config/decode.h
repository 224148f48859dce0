// A tree to a RunConfig, strictly, field by field.
#pragma once

#include "config/run_config.h"
#include "config/tree.h"

namespace transxssm {

// Throws InputError for an unknown key, a wrong type, a value out of range or a missing required field.
// Fields that the tree leaves out keep their defaults. `expand_variables`: ${VAR} in path fields.
RunConfig decode(const Tree& root, bool expand_variables);

// " Did you mean KEY?" with the valid key nearest to a mistaken one, or nothing. `siblings`: keys valid at
// this place.
std::string did_you_mean(const std::string& key, const std::vector<std::string>& siblings);

}  // namespace transxssm
