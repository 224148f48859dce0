// How fast steps follow each other on the wall clock, validation and saving left out.
#pragma once

#include <chrono>
#include <cstdint>

namespace transxssm {

class Pace {
 public:
  struct Rates {
    double seconds_per_step = 0;
    double tokens_per_second = 0;
    double flops_per_second = 0;
    int64_t steps = 0;  // that they are means of
  };

  // Time between construction and destruction doesn't count.
  class Pause {
   public:
    explicit Pause(Pace& pace) : pace_(pace), begun_(Clock::now()) {}
    ~Pause() { pace_.since_ += Clock::now() - begun_; }
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    Pace& pace_;
    std::chrono::steady_clock::time_point begun_;
  };

  void start() { since_ = Clock::now(); }

  // A step was queued. In the long run the host queues as fast as the device computes: it runs one step
  // ahead.
  void add(int64_t tokens, double flops) {
    ++steps_;
    tokens_ += static_cast<double>(tokens);
    flops_ += flops;
  }

  // Means since the last take(); the same as then if no step was queued in between.
  Rates take() {
    if (steps_ == 0) return rates_;
    const auto now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - since_).count();
    rates_ = {seconds / static_cast<double>(steps_), tokens_ / seconds, flops_ / seconds, steps_};
    since_ = now;
    steps_ = 0;
    tokens_ = flops_ = 0;
    return rates_;
  }

 private:
  using Clock = std::chrono::steady_clock;

  Clock::time_point since_ = Clock::now();
  int64_t steps_ = 0;
  double tokens_ = 0;
  double flops_ = 0;
  Rates rates_;
};

}  // namespace transxssm
