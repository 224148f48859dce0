#include "trainer/stop.h"

#include <atomic>
#include <csignal>
#include <cstdlib>

#include <unistd.h>

#include "core/check.h"

namespace transxssm {
namespace {

std::atomic<int> received_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may only use lock-free atomics");

void on_signal(int signal) {
  if (signal == SIGINT && received_signal.exchange(signal) == SIGINT) _exit(130);
  received_signal = signal;
}

// SLURM may stop the job this long before its end time; a slow file system needs some of it.
constexpr double kSlurmMarginSeconds = 60;

}  // namespace

void install_stop_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1})
    expect(sigaction(signal, &action, nullptr) == 0, "installing a signal handler failed");
}

StopWatch::StopWatch(double max_minutes) {
  using namespace std::chrono;
  if (max_minutes > 0)
    deadline_ =
        steady_clock::now() + duration_cast<steady_clock::duration>(duration<double>(max_minutes * 60));
  if (const char* end = std::getenv("SLURM_JOB_END_TIME"))  // seconds since 1970
    if (const long long seconds_since_1970 = std::atoll(end); seconds_since_1970 > 0)
      slurm_end_ = system_clock::time_point(seconds(seconds_since_1970));
}

std::optional<std::string> StopWatch::reason(double save_seconds) const {
  using namespace std::chrono;
  switch (received_signal.load()) {
    case 0:
      break;
    case SIGINT:
      return "interrupted (SIGINT)";
    case SIGTERM:
      return "asked to terminate (SIGTERM)";
    default:
      return "asked to stop (SIGUSR1)";
  }
  if (deadline_ && steady_clock::now() >= *deadline_) return "train.max_minutes reached";
  if (slurm_end_) {
    const auto margin =
        duration_cast<system_clock::duration>(duration<double>(kSlurmMarginSeconds + save_seconds));
    if (system_clock::now() >= *slurm_end_ - margin) return "the SLURM job is about to end";
  }
  return std::nullopt;
}

}  // namespace transxssm
