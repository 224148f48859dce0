// Warm-up and decay of a run in steps (the pure function is in config/optim_config.h).
#pragma once

#include "config/optim_config.h"
#include "config/run_config.h"

namespace transxssm {

ResolvedSchedule resolve_schedule(const RunConfig& config);

// One warning when the schedule was shortened; for whoever starts a run, once.
void warn_if_shortened(const RunConfig& config);

}  // namespace transxssm
