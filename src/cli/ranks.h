// Verbs that run as several ranks: the options that start them on this machine, and a rank's place.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "config/run_config.h"
#include "parallel/rank_environment.h"

namespace transxssm {

struct RankOptions {
  int gpus = 0, ranks = 0;  // local ranks to start; at most one is not 0
  bool given() const { return gpus + ranks > 0; }
};

// Adds --gpus and --ranks; `verb` begins their descriptions.
void add_rank_options(CLI::App& command, RankOptions& options, const std::string& verb);

// Starts this program with `arguments` as the ranks that were asked for, and returns the exit code of the
// run. `device` is what the configuration asks for. Throws InputError where they can't be started here.
int start_ranks(const RankOptions& options, Device device, const std::vector<std::string>& arguments,
                int stop_exit_code);

// Leaves this process the GPU that is its own as a rank. Before anything uses one.
void take_own_gpu(const RankEnvironment& environment);

}  // namespace transxssm
