// transxssm bench step
#pragma once

#include <CLI/CLI.hpp>

namespace transxssm {

void add_bench_step_command(CLI::App& bench, int& exit_code);

}  // namespace transxssm
