// transxssm bench comm
#pragma once

#include <CLI/CLI.hpp>

namespace transxssm {

void add_bench_comm_command(CLI::App& bench, int& exit_code);

}  // namespace transxssm
