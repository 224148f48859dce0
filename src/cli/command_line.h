// What is said about a command line that can't be read.
#pragma once

#include <cstdint>
#include <string>

#include <CLI/CLI.hpp>

namespace transxssm {

// One message: in which command, what is wrong there, and what would be valid.
std::string explain(const CLI::App& app, const CLI::ParseError& error);

// Of --seed. CLI11 would wrap a negative number, and it reads one that is too long as the largest.
inline CLI::Range seed_range() { return {int64_t{0}, int64_t{1} << 62}; }

}  // namespace transxssm
