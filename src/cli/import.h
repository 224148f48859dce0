// transxssm import
#pragma once

#include <CLI/CLI.hpp>

namespace transxssm {

void add_import_command(CLI::App& app);

}  // namespace transxssm
