// When a run has to stop early: signals, time limits.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace transxssm {

// Installs handlers for SIGTERM, SIGINT and SIGUSR1 that note the request; the run saves and stops at the
// next opportunity. A second SIGINT ends the process at once with exit code 130.
void install_stop_signals();

// Watches the signals, `max_minutes` of this launch (0 = no limit) and, under SLURM, the job's end time.
class StopWatch {
 public:
  explicit StopWatch(double max_minutes);

  // Why the run has to stop, or nothing. `save_seconds` is the time a save needs, kept free before SLURM's
  // end time.
  std::optional<std::string> reason(double save_seconds = 0) const;

 private:
  std::optional<std::chrono::steady_clock::time_point> deadline_;
  std::optional<std::chrono::system_clock::time_point> slurm_end_;
};

}  // namespace transxssm
