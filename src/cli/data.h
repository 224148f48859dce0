// transxssm data prepare | inspect | verify
#pragma once

#include <CLI/CLI.hpp>

namespace transxssm {

void add_data_command(CLI::App& app);

}  // namespace transxssm
