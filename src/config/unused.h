// Fields that the chosen variant of their section does not use (Field::only_with).
#pragma once

#include <string>
#include <vector>

#include "config/run_config.h"

namespace transxssm {

struct UnusedField {
  std::string key;           // dotted
  std::string choice;        // dotted key of the field that chooses the variant
  std::string reason;        // "type: cosine"
  bool has_default = false;  // anything else is an error
};

std::vector<UnusedField> unused_fields(const RunConfig& config);

}  // namespace transxssm
