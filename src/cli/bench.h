// transxssm bench ops | step | comm | gemm | prefill | decode
#pragma once

#include <CLI/CLI.hpp>

namespace transxssm {

void add_bench_command(CLI::App& app, int& exit_code);

}  // namespace transxssm
