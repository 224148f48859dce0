// What is said about a command line that can't be read.
#pragma once

#include <cstdint>
#include <string>

#include <CLI/CLI.hpp>

#include "config/run_config.h"
#include "core/check.h"
#include "trainer/errors.h"

namespace transxssm {

// One message: in which command, what is wrong there, and what would be valid.
std::string explain(const CLI::App& app, const CLI::ParseError& error);

// Of --seed. CLI11 would wrap a negative number, and it reads one that is too long as the largest.
inline CLI::Range seed_range() { return {int64_t{0}, int64_t{1} << 62}; }

// --device, a name that device_named() knows.
inline void add_device_option(CLI::App& command, std::string& device) {
  command.add_option("--device", device, "Where to compute")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
}

inline Device device_named(const std::string& name) {
  if (name == "cpu") return Device::cpu;
  return name == "cuda" ? Device::cuda : Device::automatic;
}

// Runs `work`. Where memory runs out, throws InputError that says so and gives the advice.
template <class Work>
void advise_on_memory(const char* advice, Work&& work) {
  try {
    work();
  } catch (const std::exception& error) {
    const auto shortage = out_of_memory(error);
    if (!shortage) throw;
    throw InputError(concat("out of memory: ", *shortage, "\n", advice));
  }
}

}  // namespace transxssm
