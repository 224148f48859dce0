// What is said about a command line that can't be read.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace transxssm {

// One message: in which command, what is wrong there, and what would be valid.
std::string explain(const CLI::App& app, const CLI::ParseError& error);

}  // namespace transxssm
