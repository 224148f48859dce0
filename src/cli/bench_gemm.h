// transxssm bench gemm
#pragma once

#include <CLI/CLI.hpp>

namespace transxssm {

void add_bench_gemm(CLI::App& bench);

}  // namespace transxssm
