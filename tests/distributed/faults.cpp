// Ranks that die, hang or fail: the others end soon, with a message that names the rank and the collective.
#include <chrono>
#include <csignal>

#include <ATen/ATen.h>

#include "distributed/forked_ranks.h"
#include "support/catch.h"

namespace transxssm::test {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kTimeout{1000};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

void sum(const Mesh& mesh, int64_t count) {
  const at::Tensor tensor = at::ones({count});
  mesh.all_reduce(tensor);
}

// Meeting may take its time: c10d looks names of hosts up, and a name server may be slow.
void hurry(const Mesh& mesh) {
  mesh.barrier();
  mesh.set_timeout(kTimeout);
  mesh.barrier();
}

// Every rank but `faulty` ends with exit code 1 within the timeout and some slack; gives what rank `asked`
// said.
std::string verdict(RunningRanks& running, size_t faulty, size_t asked) {
  const auto start = std::chrono::steady_clock::now();
  std::string said;
  for (size_t rank = 0; rank < running.ranks.size(); ++rank) {
    if (rank == faulty) continue;
    const std::string text = running[rank].wait();
    INFO("rank " << rank << ": " << text);
    CHECK(running[rank].exit_code() == 1);
    if (rank == asked) said = text;
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  CHECK(seconds < 4);
  return said;
}

TEST_CASE("a rank that is killed in a collective is named") {
  RunningRanks running(3, [](Mesh& mesh) {
    hurry(mesh);
    sum(mesh, 10);
    if (mesh.rank() == 1) ::kill(::getpid(), SIGKILL);
    sum(mesh, 1000);
  });
  const std::string said = verdict(running, 1, 0);
  CHECK(running[1].exit_code() == 128 + SIGKILL);
  INFO(said);
  CHECK(contains(said, "rank 1 on "));
  CHECK(contains(said, "no longer answers"));
  CHECK(contains(said, "all_reduce of [1000] Float"));
}

TEST_CASE("a rank that stands still is named") {
  RunningRanks running(3, [](Mesh& mesh) {
    hurry(mesh);
    sum(mesh, 10);
    if (mesh.rank() == 2) ::raise(SIGSTOP);
    sum(mesh, 1000);
  });
  const std::string said = verdict(running, 2, 0);
  INFO(said);
  CHECK(contains(said, "rank 2 on "));
  CHECK(contains(said, "is dead or stands still: it no longer answers; rank "));
  CHECK(contains(said, "has waited 1 s in all_reduce of [1000] Float (collective 3)"));
}

TEST_CASE("a rank that computes for ever is named, and ends too") {
  RunningRanks running(3, [](Mesh& mesh) {
    hurry(mesh);
    sum(mesh, 10);
    while (mesh.rank() == 0) ::usleep(1000);
    sum(mesh, 1000);
  });
  const std::string said = verdict(running, 3, 0);  // no rank is left
  INFO(said);
  CHECK(contains(said, "rank 0 on "));
  CHECK(contains(said, "hangs: it has started 2 collectives, the last was all_reduce of [10] Float"));
}

TEST_CASE("a rank that fails for a reason of its own ends the others") {
  RunningRanks running(3, [](Mesh& mesh) {
    hurry(mesh);
    sum(mesh, 10);
    if (mesh.rank() == 1) {
      mesh.announce_failure("its disk is full");
      throw std::runtime_error("its disk is full");
    }
    while (true) ::usleep(1000);
  });
  INFO(running[1].wait());
  const std::string said = verdict(running, 1, 2);
  INFO(said);
  CHECK(contains(said, "rank 1 on "));
  CHECK(contains(said, "failed: its disk is full"));
}

TEST_CASE("bad input of one rank in the middle of a run is an exit code of all") {
  RunningRanks running(3, [](Mesh& mesh) {
    hurry(mesh);
    if (mesh.rank() == 1) mesh.announce_failure("its data is damaged", 2);
    while (true) ::usleep(1000);
  });
  for (const size_t rank : {0, 2}) {
    const std::string said = running[rank].wait();
    INFO(said);
    CHECK(running[rank].exit_code() == 2);
    CHECK(contains(said, "failed: its data is damaged"));
  }
}

TEST_CASE("a rank that dies while others may wait for long is noticed as early as ever") {
  constexpr milliseconds kJoin{4000};
  RunningRanks running(
      3,
      [](Mesh& mesh) {
        mesh.barrier();
        mesh.set_timeout(std::chrono::minutes(5));  // a save
        if (mesh.rank() == 1) ::kill(::getpid(), SIGKILL);
        mesh.barrier();
      },
      kJoin);
  const auto start = std::chrono::steady_clock::now();
  for (const size_t rank : {0, 2}) {
    const std::string said = running[rank].wait();
    INFO(said);
    CHECK(running[rank].exit_code() == 1);
    CHECK(contains(said, "rank 1 on "));
    CHECK(contains(said, "no longer answers"));
  }
  CHECK(std::chrono::steady_clock::now() - start < 5 * kJoin);
}

TEST_CASE("without the process that served the store the ranks end") {
  RunningRanks running(2, [](Mesh& mesh) {
    hurry(mesh);
    sum(mesh, 10);
    while (true) ::usleep(1000);
  });
  ::usleep(1'000'000);
  running.store.reset();
  CHECK(contains(verdict(running, 2, 1), "rank 1 on "));
}

TEST_CASE("a rank that takes its time within the limit is waited for") {
  const auto errors = errors_of_ranks(2, [](Mesh& mesh) {
    hurry(mesh);
    if (mesh.rank() == 1) ::usleep(400'000);
    sum(mesh, 10);
    mesh.set_timeout(std::chrono::seconds(30));  // say a save
    if (mesh.rank() == 0) ::usleep(1'500'000);
    sum(mesh, 10);
  });
  CHECK(errors == std::vector<std::string>(2));
}

TEST_CASE("bad input of one rank is an error of all") {
  const auto errors = errors_of_ranks(3, [](Mesh& mesh) {
    mesh.agree("");
    mesh.expect_same("config", "abc");
    mesh.agree(mesh.rank() == 2 ? "its data is missing" : "");
  });
  for (const std::string& error : errors) {
    INFO(error);
    CHECK(contains(error, "rank 2 on "));
    CHECK(contains(error, ": its data is missing"));
  }
  const auto all = errors_of_ranks(2, [](Mesh& mesh) { mesh.agree("the config is wrong"); });
  CHECK(all == std::vector<std::string>(2, "the config is wrong"));
}

TEST_CASE("ranks that differ are refused") {
  const auto errors = errors_of_ranks(
      2, [](Mesh& mesh) { mesh.expect_same("the version of the program", concat("v", mesh.rank())); });
  for (const std::string& error : errors) {
    INFO(error);
    CHECK(contains(error, "the version of the program must be the same on all ranks: rank 0 on "));
    CHECK(contains(error, " has v0, rank 1 on "));
  }
}

}  // namespace
}  // namespace transxssm::test
