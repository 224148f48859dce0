// transxssm bench ops | step
#pragma once

#include <CLI/CLI.hpp>

namespace transxssm {

void add_bench_command(CLI::App& app);

}  // namespace transxssm
