// kill -9 at any moment of saving and pruning loses nothing that was reported as saved.
#include <csignal>

#include "checkpoint/reader.h"
#include "checkpoint_case.h"

using namespace transxssm;
using namespace transxssm::test;
namespace fs = std::filesystem;

namespace {

// Saves without end from `first` on, telling each finished step through `report`. Every seventh step is saved
// twice.
[[noreturn]] void save_forever(const fs::path& folder, int64_t first, int report) {
  Checkpointer saver(folder, {2, 50}, /*max_shard_bytes=*/2000);
  for (int64_t step = first;; ++step) {
    for (int times = step % 7 == 0 ? 2 : 1; times > 0; --times) saver.save(step, small_state(step), {});
    if (::write(report, &step, sizeof step) != sizeof step) ::_exit(1);
  }
}

// The next step that arrives through `pipe`, or -1 when it is closed.
int64_t next_report(int pipe) {
  int64_t step = 0;
  return ::read(pipe, &step, sizeof step) == sizeof step ? step : -1;
}

}  // namespace

TEST_CASE(
    "kill: after kill -9 in the middle of saving the newest valid checkpoint is no older than reported") {
  const TempFolder run;
  const fs::path folder = run / "checkpoints";
  int64_t reported = 0;
  for (int round = 0; round < 20; ++round) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      ::close(ends[0]);
      save_forever(folder, reported + 1, ends[1]);
    }
    ::close(ends[1]);
    reported = next_report(ends[0]);
    REQUIRE(reported > 0);
    ::usleep(static_cast<useconds_t>(round * 37 % 20 * 4001));  // up to 76 ms, about two saves
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    for (int64_t step = reported; step > 0; step = next_report(ends[0])) reported = step;
    ::close(ends[0]);
    const LatestCheckpoint latest = find_latest_valid(run.path());
    REQUIRE(latest.folder);
    const CheckpointReader reader(*latest.folder);
    REQUIRE(reader.manifest().step >= reported);
    require_same(reader.load(), small_state(reader.manifest().step));
    REQUIRE(fs::exists(folder / "latest"));
  }
}
