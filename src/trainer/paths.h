// Which kernels a model will run by, for the log and for reports of measurements.
#pragma once

#include <string>
#include <vector>

#include "config/run_config.h"
#include "trainer/device.h"

namespace transxssm {

// Whether tokens also come one by one.
enum class Decoding { no, yes };

// A line each for matrix products, scan and attention: whether by kernels, and if not, why.
std::vector<std::string> path_lines(const RunConfig& config, const ComputeDevice& device, Decoding decoding);

void log_paths(const RunConfig& config, const ComputeDevice& device, Decoding decoding = Decoding::no);

}  // namespace transxssm
