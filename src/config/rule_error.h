// A broken rule across fields; the loader adds where the key was given.
#pragma once

#include <string>

#include "core/check.h"

namespace transxssm {

struct RuleError : InputError {
  RuleError(std::string rule_key, const std::string& message)
      : InputError(rule_key + ": " + message), key(std::move(rule_key)) {}
  std::string key;  // dotted, without a list index
};

}  // namespace transxssm
