// Decisions that all ranks take together, and what they do for it. What is wrong with the input of one rank
// is so for all: the InputError of one is thrown on every rank.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "parallel/mesh.h"

namespace transxssm {

// Runs `work` on every rank.
void agreed(const Mesh& mesh, const std::function<void()>& work);

// Runs `work` on the first rank. All get what it returns.
std::string on_first(const Mesh& mesh, const std::function<std::string()>& work);

// The same, for work in which all ranks help: `ask` has every rank answer a question, and gives the answers
// by rank.
using Ask = std::function<std::vector<std::string>(const std::string& question)>;
using Answer = std::function<std::string(const std::string& question)>;
std::string on_first_with_help(const Mesh& mesh, const std::function<std::string(const Ask&)>& work,
                               const Answer& answer);

}  // namespace transxssm
