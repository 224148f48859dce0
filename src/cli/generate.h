// transxssm generate
#pragma once

#include <CLI/CLI.hpp>

namespace transxssm {

void add_generate_command(CLI::App& app);

}  // namespace transxssm
