// The console line of a training step.
#pragma once

#include <cstdint>
#include <string>

#include "trainer/metrics.h"

namespace transxssm {

// "step 120/2000 (6%) | loss 3.2100 | lr 2.00e-03 | norm 0.91 | 12.3 k tok/s | MFU 41.2% | 33.1 GiB | ETA 1 h
// 02 min"
std::string progress_line(const TrainMetrics& row, int64_t max_steps);

// "37 s", "12 min", "1 h 02 min", "3 d 04 h"
std::string format_duration(double seconds);

}  // namespace transxssm
