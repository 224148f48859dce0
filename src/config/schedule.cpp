// Warm-up and decay of the learning rate in steps.
#include "config/schedule.h"

#include <cmath>

#include "core/check.h"
#include "core/counted.h"
#include "core/logging.h"

namespace transxssm {
namespace {

int64_t steps_of(int64_t steps, double ratio, int64_t max_steps) {
  return ratio > 0 ? std::llround(ratio * static_cast<double>(max_steps)) : steps;
}

struct GivenSteps {
  int64_t warmup = 0;
  int64_t decay = 0;
};

GivenSteps given_steps(const ScheduleConfig& schedule, int64_t max_steps) {
  return {steps_of(schedule.warmup_steps, schedule.warmup_ratio, max_steps),
          schedule.type == ScheduleType::wsd ? steps_of(schedule.decay_steps, schedule.decay_ratio, max_steps)
                                             : 0};
}

}  // namespace

ResolvedSchedule resolve_schedule(const ScheduleConfig& schedule, int64_t max_steps) {
  const GivenSteps given = given_steps(schedule, max_steps);
  ResolvedSchedule result{given.warmup, given.decay, given.warmup + given.decay > max_steps};
  if (result.shortened) {
    const double share = static_cast<double>(max_steps) / static_cast<double>(given.warmup + given.decay);
    result.warmup_steps = static_cast<int64_t>(std::floor(share * static_cast<double>(given.warmup)));
    result.decay_steps = given.decay > 0 ? max_steps - result.warmup_steps : 0;
  }
  if (schedule.type == ScheduleType::cosine || schedule.type == ScheduleType::linear) {
    result.decay_steps = max_steps - result.warmup_steps;
  }
  return result;
}

ResolvedSchedule resolve_schedule(const RunConfig& config) {
  return resolve_schedule(config.schedule, config.train.max_steps);
}

void warn_if_shortened(const RunConfig& config) {
  const ResolvedSchedule resolved = resolve_schedule(config);
  if (!resolved.shortened) return;
  const int64_t max_steps = config.train.max_steps;
  const GivenSteps given = given_steps(config.schedule, max_steps);
  log_warning(concat("schedule: warm-up (", counted(given.warmup, "step"), ") and decay (",
                     counted(given.decay, "step"), ") are longer than train.max_steps = ", max_steps,
                     "; shortened in proportion to ", resolved.warmup_steps, " and ", resolved.decay_steps));
}

}  // namespace transxssm
