// Which step gets which learning rate, in literal values.
#include "optim/lr_schedule.h"

#include <cmath>
#include <vector>

#include "support/catch.h"

using namespace transxssm;

namespace {

void require_rates(const LrSchedule& schedule, const std::vector<double>& expected) {
  for (size_t step = 0; step < expected.size(); ++step) {
    INFO("step " << step);
    const double rate = learning_rate(schedule, static_cast<int64_t>(step));
    REQUIRE(std::abs(rate - expected[step]) <= 1e-12 * schedule.lr);
  }
}

}  // namespace

TEST_CASE("lr_schedule: wsd warms up to the peak, stays, and decays linearly towards the minimum",
          "[optim]") {
  const LrSchedule wsd{ScheduleType::wsd, DecayType::linear, 0.8, 0.5, 4, 4, 10};
  require_rates(wsd, {0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8, 0.7, 0.6, 0.5, 0.4, 0.4});
}

TEST_CASE("lr_schedule: wsd decays by 1 - sqrt(p) or a cosine when asked", "[optim]") {
  require_rates({ScheduleType::wsd, DecayType::sqrt, 1.0, 0.0, 0, 4, 6},
                {1.0, 1.0, 1.0, 0.5, 1 - 0.70710678118654752, 1 - 0.86602540378443865, 0.0});
  require_rates({ScheduleType::wsd, DecayType::cosine, 1.0, 0.0, 0, 4, 6},
                {1.0, 1.0, 1.0, 0.85355339059327376, 0.5, 0.14644660940672624, 0.0});
}

TEST_CASE("lr_schedule: cosine and linear decay over all that follows warm-up", "[optim]") {
  require_rates({ScheduleType::cosine, DecayType::linear, 2.0, 0.1, 1, 4, 5},
                {2.0, 2.0, 0.2 + 1.8 * 0.85355339059327376, 1.1, 0.2 + 1.8 * 0.14644660940672624, 0.2});
  require_rates({ScheduleType::linear, DecayType::cosine, 2.0, 0.0, 1, 4, 5}, {2.0, 2.0, 1.5, 1.0, 0.5, 0.0});
}

TEST_CASE("lr_schedule: constant stays at the peak after warm-up, beyond the last step too", "[optim]") {
  require_rates({ScheduleType::constant, DecayType::linear, 3.0, 0.0, 3, 0, 5},
                {1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0});
  require_rates({ScheduleType::constant, DecayType::linear, 3.0, 0.0, 0, 0, 2}, {3.0, 3.0, 3.0});
}

TEST_CASE("lr_schedule: no step of a run has rate 0", "[optim]") {
  for (const auto type :
       {ScheduleType::wsd, ScheduleType::cosine, ScheduleType::linear, ScheduleType::constant})
    for (const int64_t warmup : {0, 1, 7}) {
      const int64_t decay = type == ScheduleType::wsd ? 3 : 10 - warmup;
      const LrSchedule schedule{type, DecayType::linear, 1.0, 0.0, warmup, decay, 10};
      for (int64_t step = 0; step < 10; ++step) REQUIRE(learning_rate(schedule, step) > 0);
    }
}

TEST_CASE("lr_schedule: a config's schedule is cut in proportion when it is longer than the run", "[optim]") {
  OptimizerConfig optimizer;
  optimizer.lr = 1.0;
  ScheduleConfig config;
  config.type = ScheduleType::wsd;
  config.warmup_steps = 20;
  config.decay_steps = 20;
  require_rates(make_lr_schedule(optimizer, config, 4), {0.5, 1.0, 1.0, 0.5, 0.0});
}
