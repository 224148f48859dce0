// Processes that are started and ended together; the ranks here are shells.
#include "parallel/local_ranks.h"

#include <chrono>
#include <csignal>
#include <fstream>
#include <sstream>

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/atomic_file.h"
#include "core/check.h"
#include "support/catch.h"
#include "support/temp_folder.h"

namespace transxssm::test {
namespace {

LocalRanks shells(int count, const std::string& script) {
  LocalRanks ranks;
  ranks.count = count;
  ranks.command = {"/bin/sh", "-c", script};
  ranks.stop_exit_code = 75;
  ranks.grace_milliseconds = 300;
  return ranks;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

bool exists(pid_t process) { return ::kill(process, 0) == 0; }

// Until `happened`, at most five seconds.
template <class Happened>
bool soon(Happened&& happened) {
  for (int tries = 0; tries < 500; ++tries) {
    if (happened()) return true;
    ::usleep(10'000);
  }
  return false;
}

// run_local_ranks in a process of its own, whose exit code is the run's.
class Launcher {
 public:
  explicit Launcher(const LocalRanks& ranks) : process_(::fork()) {
    if (process_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::_exit(run_local_ranks(ranks).exit_code);
  }
  ~Launcher() {
    if (process_ > 0) ::kill(process_, SIGKILL);
    wait();
  }
  void signal(int number) const { ::kill(process_, number); }
  int wait() {
    int status = -1;
    if (process_ > 0) ::waitpid(process_, &status, 0);
    process_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t process_;
};

// The process numbers that `count` ranks have written into `folder`.
std::vector<pid_t> processes_in(const std::filesystem::path& folder, int count) {
  std::vector<pid_t> found;
  soon([&] {
    found.clear();
    for (int rank = 0; rank < count; ++rank) {
      pid_t process = 0;
      std::ifstream(folder / std::to_string(rank)) >> process;
      if (process > 0) found.push_back(process);
    }
    return static_cast<int>(found.size()) == count;
  });
  return found;
}

TEST_CASE("every rank gets its place") {
  const TempFolder folder;
  const auto outcome = run_local_ranks(
      shells(3, concat("echo $RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR > ", folder.path().string(),
                       "/$RANK; "
                       "test -n \"$MASTER_PORT$OMP_NUM_THREADS\"")));
  CHECK(outcome.exit_code == 0);
  CHECK(outcome.failure == "");
  for (int rank = 0; rank < 3; ++rank)
    CHECK(read_file(folder.path() / std::to_string(rank)) == concat(rank, " ", rank, " 3 127.0.0.1\n"));
}

TEST_CASE("the first rank to fail ends the run and is named with its last lines") {
  const auto start = std::chrono::steady_clock::now();
  const auto outcome = run_local_ranks(
      shells(3, "if test $RANK = 1; then seq 1000; echo the reason >&2; exit 3; fi; sleep 100"));
  CHECK(seconds_since(start) < 5);
  CHECK(outcome.exit_code == 3);
  INFO(outcome.failure);
  CHECK(outcome.failure.rfind("rank 1 of 3 was the first to fail: process ", 0) == 0);
  CHECK(outcome.failure.find("ended with exit code 3; its last lines:\n982\n983") != std::string::npos);
  CHECK(outcome.failure.find("1000\nthe reason") == outcome.failure.size() - 15);
  CHECK(!outcome.first_ended_itself);
}

TEST_CASE("a rank that is killed is the first to fail, whatever the others say of it") {
  const auto outcome =
      run_local_ranks(shells(3, "test $RANK = 2 && kill -9 $$; test $RANK = 1 && exit 1; sleep 0.1"));
  CHECK(outcome.exit_code == 1);
  const std::string failure = outcome.failure;
  CHECK((failure.find("rank 2") == 0 || failure.find("rank 1") == 0));  // who is first is up to the scheduler
  const auto killed = run_local_ranks(shells(2, "test $RANK = 1 && kill -9 $$; sleep 0.1"));
  CHECK(killed.exit_code == 1);
  CHECK(killed.failure.find("was killed by signal 9 (Killed)") != std::string::npos);
  CHECK(killed.first_ended_itself);
}

TEST_CASE("ranks that stopped with everything saved have not failed") {
  const auto outcome = run_local_ranks(shells(2, "sleep 0.$RANK; exit 75"));
  CHECK(outcome.exit_code == 75);
  CHECK(outcome.failure == "");
}

TEST_CASE("a program that can't be started is a failure") {
  LocalRanks ranks = shells(2, "");
  ranks.command = {"/nonexistent"};
  CHECK(run_local_ranks(ranks).exit_code == 127);
}

TEST_CASE("signals reach every rank once") {
  const TempFolder folder;
  const std::string own = folder.path().string() + "/$RANK";
  const int number = GENERATE(SIGTERM, SIGINT, SIGUSR1);
  Launcher launcher(
      shells(2, concat("trap 'echo caught >> ", own, ".signals' TERM INT USR1; echo $$ > ", own,
                       "; until test -s ", own, ".signals; do sleep 0.01; done; sleep 0.1; exit 75")));
  REQUIRE(processes_in(folder.path(), 2).size() == 2);
  launcher.signal(number);
  CHECK(launcher.wait() == 75);
  for (const char* rank : {"0", "1"})
    CHECK(read_file(folder.path() / (std::string(rank) + ".signals")) == "caught\n");
}

TEST_CASE("no rank outlives the process that started it") {
  const TempFolder folder;
  Launcher launcher(
      shells(3, concat("echo $$ > ", folder.path().string(), "/$RANK; while :; do sleep 0.05; done")));
  const auto processes = processes_in(folder.path(), 3);
  REQUIRE(processes.size() == 3);
  launcher.signal(SIGKILL);
  launcher.wait();
  for (const pid_t process : processes) CHECK(soon([&] { return !exists(process); }));
}

}  // namespace
}  // namespace transxssm::test
