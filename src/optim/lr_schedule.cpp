#include "optim/lr_schedule.h"

#include <cmath>
#include <numbers>

namespace transxssm {
namespace {

DecayType shape_of(const LrSchedule& s) {
  if (s.type == ScheduleType::cosine) return DecayType::cosine;
  if (s.type == ScheduleType::linear) return DecayType::linear;
  return s.decay_type;
}

// What is left of the peak after the share p of the decay.
double remaining(DecayType shape, double p) {
  switch (shape) {
    case DecayType::linear:
      return 1 - p;
    case DecayType::cosine:
      return 0.5 * (1 + std::cos(std::numbers::pi * p));
    case DecayType::sqrt:
      return 1 - std::sqrt(p);
  }
  return 1;
}

}  // namespace

LrSchedule make_lr_schedule(const OptimizerConfig& optimizer, const ScheduleConfig& schedule,
                            int64_t max_steps) {
  const ResolvedSchedule steps = resolve_schedule(schedule, max_steps);
  return {.type = schedule.type,
          .decay_type = schedule.decay_type,
          .lr = optimizer.lr,
          .min_lr_ratio = schedule.min_lr_ratio,
          .warmup_steps = steps.warmup_steps,
          .decay_steps = steps.decay_steps,
          .max_steps = max_steps};
}

double learning_rate(const LrSchedule& s, int64_t step) {
  if (step < s.warmup_steps)
    return s.lr * static_cast<double>(step + 1) / static_cast<double>(s.warmup_steps);
  const int64_t decayed = step - (s.max_steps - s.decay_steps);
  if (s.type == ScheduleType::constant || (decayed <= 0 && step < s.max_steps)) return s.lr;
  const double p =
      decayed < s.decay_steps ? static_cast<double>(decayed) / static_cast<double>(s.decay_steps) : 1.0;
  return s.lr * (s.min_lr_ratio + (1 - s.min_lr_ratio) * remaining(shape_of(s), p));
}

}  // namespace transxssm
