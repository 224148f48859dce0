// Warm-up and decay in steps.
#include "config/schedule.h"

#include "support/catch.h"

using namespace transxssm;

namespace {

struct Steps {
  int64_t warmup, decay;
  bool shortened;
  bool operator==(const Steps&) const = default;
};

Steps resolve(const ScheduleConfig& schedule, int64_t max_steps) {
  const ResolvedSchedule r = resolve_schedule(schedule, max_steps);
  return {r.warmup_steps, r.decay_steps, r.shortened};
}

}  // namespace

TEST_CASE("schedule: steps are taken as given, ratios from max_steps") {
  CHECK(resolve({.warmup_steps = 3200, .decay_steps = 1600}, 32000) == Steps{3200, 1600, false});
  CHECK(resolve({.warmup_ratio = 0.1, .decay_ratio = 0.1}, 32000) == Steps{3200, 3200, false});
  CHECK(resolve({.warmup_ratio = 0.1, .decay_ratio = 0.1}, 7) == Steps{1, 1, false});
  CHECK(resolve({}, 100) == Steps{0, 0, false});
  CHECK(resolve({.warmup_ratio = 0.5, .decay_ratio = 0.5}, 10) == Steps{5, 5, false});
}

TEST_CASE("schedule: warm-up and decay longer than the run are shortened in proportion") {
  CHECK(resolve({.warmup_steps = 3200, .decay_steps = 3200}, 200) == Steps{100, 100, true});
  CHECK(resolve({.warmup_steps = 3000, .decay_steps = 1000}, 101) == Steps{75, 26, true});
  CHECK(resolve({.warmup_steps = 2000}, 13) == Steps{13, 0, true});
  CHECK(resolve({.warmup_steps = 5, .decay_steps = 5}, 1) == Steps{0, 1, true});
  CHECK(resolve({.warmup_ratio = 0.5, .decay_ratio = 0.5}, 3) == Steps{1, 2, true});
}

TEST_CASE("schedule: cosine and linear decay over all that follows warm-up, constant never") {
  CHECK(resolve({.type = ScheduleType::cosine, .warmup_steps = 10}, 101) == Steps{10, 91, false});
  CHECK(resolve({.type = ScheduleType::linear, .warmup_steps = 200}, 101) == Steps{101, 0, true});
  CHECK(resolve({.type = ScheduleType::constant, .warmup_ratio = 0.1}, 100) == Steps{10, 0, false});
}
