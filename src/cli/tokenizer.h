// transxssm tokenizer train | encode | decode | info
#pragma once

#include <CLI/CLI.hpp>

namespace transxssm {

void add_tokenizer_command(CLI::App& app);

}  // namespace transxssm
