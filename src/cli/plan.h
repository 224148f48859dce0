// transxssm plan
#pragma once

#include <CLI/CLI.hpp>

namespace transxssm {

void add_plan_command(CLI::App& app);

}  // namespace transxssm
