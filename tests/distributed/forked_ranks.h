// Runs a function in several processes that meet as the ranks of one mesh.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
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
    expect(::pipe2(to_rank_, O_CLOEXEC) == 0 && ::pipe2(from_rank_, O_CLOEXEC) == 0, "pipe2");
    process_ = ::fork();
    expect(process_ >= 0, "fork");
    if (process_ == 0) run(body);
    ::close(to_rank_[0]);
    ::close(from_rank_[1]);
  }
  ~ForkedRank() {
    ::kill(process_, SIGKILL);
    ::close(to_rank_[1]);
    ::close(from_rank_[0]);
    ::waitpid(process_, nullptr, 0);
  }
  ForkedRank(const ForkedRank&) = delete;
  ForkedRank& operator=(const ForkedRank&) = delete;

  pid_t process() const { return process_; }

  void start(const RankEnvironment& where) const {
    const Place place{where.rank, where.size, where.port};
    expect(::write(to_rank_[1], &place, sizeof place) == sizeof place, "write to a rank");
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
    std::string failure;
    try {
      body(environment);
    } catch (const std::exception& error) {
      failure = error.what();
    }
    if (!failure.empty() && ::write(from_rank_[1], failure.data(), failure.size()) < 0) ::_exit(2);
    ::_exit(0);
  }

  int to_rank_[2];
  int from_rank_[2];
  pid_t process_ = -1;
};

constexpr std::chrono::seconds kTestTimeout{30};

// What went wrong in each of `size` ranks that run `body`; empty texts where all is well.
inline std::vector<std::string> errors_of_ranks(int size, const std::function<void(Mesh&)>& body,
                                                std::chrono::seconds timeout = kTestTimeout) {
  const auto joined = [&](const RankEnvironment& environment) {
    Mesh mesh = Mesh::join(environment, timeout);
    mesh.connect(at::kCPU);
    body(mesh);
  };
  std::vector<std::unique_ptr<ForkedRank>> ranks;
  for (int rank = 0; rank < size; ++rank) ranks.push_back(std::make_unique<ForkedRank>(joined));
  const LocalStore store;
  for (int rank = 0; rank < size; ++rank)
    ranks[static_cast<size_t>(rank)]->start(store.environment(rank, size));
  std::vector<std::string> errors;
  for (const auto& rank : ranks) errors.push_back(rank->wait());
  return errors;
}

}  // namespace transxssm::test
