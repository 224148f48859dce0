// Which kernels a model will run by, for the log.
#pragma once

#include "config/run_config.h"
#include "trainer/device.h"

namespace transxssm {

// A line each for matrix products, scan and attention: whether by kernels, and if not, why.
void log_paths(const RunConfig& config, const ComputeDevice& device);

}  // namespace transxssm
