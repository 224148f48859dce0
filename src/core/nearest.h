// What somebody who mistyped a word may have meant.
#pragma once

#include <string>
#include <vector>

namespace transxssm {

// The one of `valid` that is the fewest edits from `word`; empty when all are further than a typing error.
std::string nearest(const std::string& word, const std::vector<std::string>& valid);

}  // namespace transxssm
