// Runs a function in several processes that meet as the ranks of one mesh.
#pragma once

#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/check.h"
#include "parallel/local_store.h"
#include "parallel/mesh.h"

namespace transxssm::test {

// One rank in a process of its own: forked, so that it costs milliseconds, and before this process has made
// any thread. It learns from a pipe where the ranks meet, and writes into another what went wrong.
class ForkedRank {
 public:
  using Body = std::function<void(const RankEnvironment&)>;

  explicit ForkedRank(const Body& body) {
    // c10d asks the name server about every peer; where that is slow, not for five seconds each.
    ::setenv("RES_OPTIONS", "timeout:1 attempts:1", /*overwrite=*/1);
    expect(::pipe2(to_rank_, O_CLOEXEC) == 0 && ::pipe2(from_rank_, O_CLOEXEC) == 0, "pipe2");
    process_ = ::fork();
    expect(process_ >= 0, "fork");
    if (process_ == 0) run(body);
    ::close(to_rank_[0]);
    ::close(from_rank_[1]);
  }
  ~ForkedRank() {
    if (!ended_) ::kill(process_, SIGKILL);
    ::close(to_rank_[1]);
    ::close(from_rank_[0]);
    exit_code();
  }
  ForkedRank(const ForkedRank&) = delete;
  ForkedRank& operator=(const ForkedRank&) = delete;

  pid_t process() const { return process_; }

  void start(const RankEnvironment& where) const {
    const Place place{where.rank, where.size, where.port};
    expect(::write(to_rank_[1], &place, sizeof place) == sizeof place, "write to a rank");
  }

  // In the rank's process: tells the test what went wrong.
  static void report(const std::string& failure) {
    if (::write(report_pipe, failure.data(), failure.size()) < 0) ::_exit(2);
  }

  int exit_code() {  // 128 + the signal when one ended it
    int status = 0;
    if (!ended_) ::waitpid(process_, &status, 0);
    if (!ended_) ended_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return *ended_;
  }

  // What went wrong, or nothing; returns when the rank has ended.
  std::string wait() const {
    std::string text;
    char part[4096];
    for (ssize_t got; (got = ::read(from_rank_[0], part, sizeof part)) > 0;)
      text.append(part, static_cast<size_t>(got));
    return text;
  }

 private:
  struct Place {
    int rank, size;
    uint16_t port;
  };

  [[noreturn]] void run(const Body& body) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::close(to_rank_[1]);
    ::close(from_rank_[0]);
    Place place{};
    if (::read(to_rank_[0], &place, sizeof place) != sizeof place) ::_exit(1);
    RankEnvironment environment;
    environment.rank = environment.local_rank = place.rank;
    environment.size = place.size;
    environment.address = "127.0.0.1";
    environment.port = place.port;
    report_pipe = from_rank_[1];
    try {
      body(environment);
    } catch (const std::exception& error) {
      report(error.what());
      ::_exit(1);
    }
    ::_exit(0);
  }

  static inline int report_pipe = -1;
  std::optional<int> ended_;
  int to_rank_[2];
  int from_rank_[2];
  pid_t process_ = -1;
};

constexpr std::chrono::seconds kTestTimeout{30};

using Ranks = std::vector<std::unique_ptr<ForkedRank>>;

// `size` ranks that join, connect and run `body`, and the store they meet in.
struct RunningRanks {
  RunningRanks(int size, const std::function<void(Mesh&)>& body,
               std::chrono::milliseconds timeout = kTestTimeout) {
    const auto joined = [&](const RankEnvironment& environment) {
      Mesh mesh = Mesh::join(environment, timeout);
      mesh.on_failure([](const std::string& reason, int) { ForkedRank::report(reason); });
      mesh.connect(at::kCPU);
      body(mesh);
    };
    for (int rank = 0; rank < size; ++rank) ranks.push_back(std::make_unique<ForkedRank>(joined));
    store = std::make_unique<LocalStore>();  // its threads come after the forks
    for (int rank = 0; rank < size; ++rank)
      ranks[static_cast<size_t>(rank)]->start(store->environment(rank, size));
  }
  ForkedRank& operator[](size_t rank) { return *ranks[rank]; }

  Ranks ranks;
  std::unique_ptr<LocalStore> store;
};

// What went wrong in each of `size` ranks that run `body`; empty texts where all is well.
inline std::vector<std::string> errors_of_ranks(int size, const std::function<void(Mesh&)>& body,
                                                std::chrono::milliseconds timeout = kTestTimeout) {
  RunningRanks running(size, body, timeout);
  std::vector<std::string> errors;
  for (const auto& rank : running.ranks) errors.push_back(rank->wait());
  return errors;
}

}  // namespace transxssm::test
