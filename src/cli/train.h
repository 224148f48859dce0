// transxssm train
#pragma once

#include <CLI/CLI.hpp>

namespace transxssm {

// `exit_code` receives what the process should end with when training was stopped early.
void add_train_command(CLI::App& app, int& exit_code);

}  // namespace transxssm
