// `transxssm train`: from a configuration to a finished or stopped run.
#pragma once

#include "config/run_config.h"
#include "parallel/mesh.h"
#include "trainer/start_plan.h"

namespace transxssm {

// Returns the exit code: 0 when train.max_steps was reached, train.stop_exit_code when stopped early with
// everything saved. Throws InputError for bad input, other exceptions for failures; status.json of the run
// folder says which. `mesh`: the ranks that train together, not yet connected; each calls this.
int launch_training(const RunConfig& config, const LaunchOptions& options, Mesh mesh = Mesh::single());

}  // namespace transxssm
