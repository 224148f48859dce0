// transxssm export
#pragma once

#include <CLI/CLI.hpp>

namespace transxssm {

void add_export_command(CLI::App& app);

}  // namespace transxssm
