// The learning rate as a pure function of the step: nothing to save, nothing to restore.
#pragma once

#include <cstdint>

#include "config/optim_config.h"

namespace transxssm {

struct LrSchedule {
  ScheduleType type = ScheduleType::constant;
  DecayType decay_type = DecayType::linear;  // of wsd
  double lr = 0;                             // peak
  double min_lr_ratio = 0;                   // where the decay ends, as a share of the peak
  int64_t warmup_steps = 0;                  // W
  int64_t decay_steps = 0;  // D: the last steps; S − W for cosine and linear; no meaning for constant
  int64_t max_steps = 0;    // S ≥ W + D
};

// With warm-up and decay in steps, shortened if need be (config/schedule.h).
LrSchedule make_lr_schedule(const OptimizerConfig& optimizer, const ScheduleConfig& schedule,
                            int64_t max_steps);

// The rate of update `step`, counted from 0:
//   step < W                      lr · (step + 1) / W: the first is lr / W, the last is lr
//   then until the decay begins   lr
//   k-th update of a decay        lr · (r + (1 − r) f(k / D)), r = min_lr_ratio, k from 0: the first is still
//   lr,
//                                 and r · lr would be reached at step S, the mirror image of the warm-up
// with f(p) = 1 − p (linear), (1 + cos πp) / 2 (cosine), 1 − √p (sqrt, arXiv 2405.18392). From step S on the
// rate is r · lr, except for `constant`.
double learning_rate(const LrSchedule& schedule, int64_t step);

}  // namespace transxssm
