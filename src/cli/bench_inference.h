// transxssm bench prefill and bench decode
#pragma once

#include <CLI/CLI.hpp>

namespace transxssm {

void add_bench_inference_commands(CLI::App& bench);

}  // namespace transxssm
