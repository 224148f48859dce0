#include "parallel/local_ranks.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <optional>
#include <thread>

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/check.h"
#include "parallel/child_process.h"
#include "parallel/local_store.h"
#include "parallel/rank_environment.h"

namespace transxssm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kInterruptedTwice = 130;  // exit code of a rank that a second Ctrl-C ended at once

// The signals of a run, taken from a descriptor while it lives. Made before any thread is, so that none of
// them is ended by one.
class SignalQueue {
 public:
  SignalQueue() {
    sigset_t wanted;
    sigemptyset(&wanted);
    for (const int number : {SIGTERM, SIGINT, SIGUSR1, SIGCHLD}) sigaddset(&wanted, number);
    expect(pthread_sigmask(SIG_BLOCK, &wanted, &before_) == 0, "blocking signals failed");
    descriptor_ = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    expect(descriptor_ >= 0, "signalfd failed");
  }
  ~SignalQueue() {
    close(descriptor_);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  SignalQueue(const SignalQueue&) = delete;
  SignalQueue& operator=(const SignalQueue&) = delete;

  int descriptor() const { return descriptor_; }
  std::optional<int> next() const {
    signalfd_siginfo info{};
    if (read(descriptor_, &info, sizeof info) != sizeof info) return std::nullopt;
    return static_cast<int>(info.ssi_signo);
  }

 private:
  sigset_t before_{};
  int descriptor_ = -1;
};

class Family {
 public:
  Family(const LocalRanks& ranks, const SignalQueue& signals) : ranks_(ranks), signals_(signals) {
    // Without a word about it every rank's operators would take all cores.
    const unsigned cores =
        std::max(1u, std::thread::hardware_concurrency() / static_cast<unsigned>(ranks.count));
    const bool threads_given = environment_variables().contains("OMP_NUM_THREADS");
    for (int rank = 0; rank < ranks.count; ++rank) {
      Variables variables = local_rank_variables(rank, ranks.count, store_.port());
      if (!threads_given) variables["OMP_NUM_THREADS"] = std::to_string(cores);
      children_.emplace_back(ranks.command, variables, /*is_heard=*/rank == 0);
    }
  }

  LocalOutcome run() {
    while (any_left()) {
      wait_for_news();
      for (ChildProcess& child : children_) child.read_output();
      while (const auto number = signals_.next())
        if (*number != SIGCHLD) pass_on(*number);
      collect_ended();
      if (deadline_ && Clock::now() >= *deadline_) kill_rest();
    }
    return outcome();
  }

 private:
  bool any_left() const {
    return std::any_of(children_.begin(), children_.end(),
                       [](const auto& child) { return !child.has_ended(); });
  }

  void send(int number) const {
    for (const ChildProcess& child : children_) child.signal(number);
  }

  void pass_on(int number) {
    interrupts_ += number == SIGINT;
    send(number);
  }

  void kill_rest() {
    killed_first_ = killed_first_ || !children_[0].has_ended();
    send(SIGKILL);
    deadline_.reset();
  }

  // Until a signal, output of a rank, or the end of the grace.
  void wait_for_news() const {
    std::vector<pollfd> watched{{signals_.descriptor(), POLLIN, 0}};
    for (const ChildProcess& child : children_)
      if (child.descriptor() >= 0) watched.push_back({child.descriptor(), POLLIN, 0});
    int wait = -1;
    if (deadline_) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(*deadline_ - Clock::now()).count();
      wait = static_cast<int>(std::max<int64_t>(0, left)) + 1;
    }
    poll(watched.data(), watched.size(), wait);
  }

  void collect_ended() {
    std::vector<const ChildProcess*> ended;
    int status = 0;
    for (ChildProcess& child : children_)
      if (!child.has_ended() && waitpid(child.id(), &status, WNOHANG) == child.id()) {
        child.ended(status);
        ended.push_back(&child);
      }
    // Of several at once, the one that a signal ended: the others met its end in a collective.
    std::stable_partition(ended.begin(), ended.end(), [](const auto* child) { return child->was_killed(); });
    for (const ChildProcess* child : ended) note_end(*child);
  }

  void note_end(const ChildProcess& child) {
    const int code = child.exit_code();
    if (first_failed_ != nullptr || code == 0 || code == ranks_.stop_exit_code) return;
    first_failed_ = &child;
    deadline_ = Clock::now() + std::chrono::milliseconds(ranks_.grace_milliseconds);
  }

  LocalOutcome outcome() const {
    LocalOutcome made;
    made.first_ended_itself = !killed_first_;
    if (first_failed_ == nullptr) {
      for (const ChildProcess& child : children_)
        made.exit_code = std::max(made.exit_code, child.exit_code());
      return made;
    }
    made.exit_code = first_failed_->exit_code();
    if (made.exit_code == kInterruptedTwice && interrupts_ > 1) return made;
    const auto rank = first_failed_ - children_.data();
    made.failure = concat("rank ", rank, " of ", ranks_.count, " was the first to fail: process ",
                          first_failed_->id(), " ", first_failed_->how_it_ended());
    const std::string lines = first_failed_->last_lines();
    if (!lines.empty()) made.failure += concat("; its last lines:\n", lines);
    return made;
  }

  const LocalRanks& ranks_;
  const SignalQueue& signals_;
  LocalStore store_;
  std::vector<ChildProcess> children_;
  const ChildProcess* first_failed_ = nullptr;
  std::optional<Clock::time_point> deadline_;
  bool killed_first_ = false;
  int interrupts_ = 0;
};

}  // namespace

LocalOutcome run_local_ranks(const LocalRanks& ranks) {
  const SignalQueue signals;
  return Family(ranks, signals).run();
}

}  // namespace transxssm
