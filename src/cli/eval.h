// transxssm eval
#pragma once

#include <CLI/CLI.hpp>

namespace transxssm {

void add_eval_command(CLI::App& app);

}  // namespace transxssm
