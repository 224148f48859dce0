// Training that is killed, asked to stop, out of its time or out of space, and started again by the same
// command: it ends as a run in one piece does.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "checkpoint/locate.h"
#include "config/load.h"
#include "core/check.h"
#include "core/rng.h"
#include "support/catch.h"
#include "support/run_program.h"
#include "support/run_result.h"
#include "support/tiny_run.h"

using namespace transxssm;
using namespace transxssm::test;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

constexpr int kBadInput = 2;
constexpr int kStopped = 75;  // train.stop_exit_code

// A tiny run as a file of its own; every run of it goes to a folder that the test names.
class Training {
 public:
  explicit Training(const std::function<void(RunConfig&)>& change) {
    RunConfig config = tiny_.config();
    change(config);
    write(tiny_.folder / "run.yaml", to_yaml(config));
  }

  fs::path run(const std::string& name) const { return tiny_.folder / name; }
  const TinyRun& tiny() const { return tiny_; }

  Program start(
      const std::string& run, const std::string& more = "",
      const std::function<void()>& in_child = [] {}) const {
    return Program(tiny_.folder.path(),
                   words("train --config run.yaml --set train.run_dir=" + run + " " + more), in_child);
  }

  void finish(const std::string& run, const std::string& more = "") const {
    const Ended ended = start(run, more).wait();
    INFO(ended.err);
    REQUIRE(ended.code == 0);
  }

  void require_equal(const std::string& a, const std::string& b) const {
    require_equal_bits(final_state(run(a)), final_state(run(b)));
    REQUIRE(metric_rows(run(a)) == metric_rows(run(b)));
  }

 private:
  TinyRun tiny_;
};

void sleep_up_to(std::chrono::milliseconds longest, uint32_t random) {
  std::this_thread::sleep_for(std::chrono::milliseconds(random % longest.count()));
}

// Until `happened`, or until the program has ended.
void await(Program& program, const std::function<bool()>& happened) {
  const auto give_up = std::chrono::steady_clock::now() + 60s;
  while (!happened() && !program.has_ended()) {
    REQUIRE(std::chrono::steady_clock::now() < give_up);
    std::this_thread::sleep_for(200us);
  }
}

// The step of the last save of `run` that the program reported, or 0.
int64_t last_saved(const std::string& err, const std::string& run) {
  const std::string mark = "saved " + run + "/checkpoints/step_";
  const size_t at = err.rfind(mark);
  return at == std::string::npos ? 0 : std::stoll(err.substr(at + mark.size()));
}

int64_t newest_valid_step(const fs::path& run) {
  const LatestCheckpoint latest = find_latest_valid(run);
  return latest.folder ? CheckpointReader(*latest.folder).manifest().step : 0;
}

bool is_saving(const fs::path& run) {
  std::error_code unknown;  // entries come and go
  for (fs::directory_iterator item(run / "checkpoints", unknown), end; !unknown && item != end;
       item.increment(unknown))
    if (item->path().filename().string().starts_with(".tmp-step_")) return true;
  return false;
}

// The message of the only error in what the program printed.
std::string only_error(const std::string& err) {
  const std::string mark = " error ";
  const size_t at = err.find(mark);
  REQUIRE(at != err.npos);
  REQUIRE(err.find(mark, at + 1) == err.npos);
  return err.substr(at + mark.size());
}

// A file system of its own in a new folder, where this user may mount one.
class SmallDisk {
 public:
  SmallDisk(fs::path place, const std::string& size) : place_(std::move(place)) {
    fs::create_directories(place_);
    mounted_ = ::mount("tmpfs", place_.c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(place_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  bool is_mounted() const { return mounted_; }
  void resize(const std::string& size) const {
    REQUIRE(::mount("tmpfs", place_.c_str(), "tmpfs", MS_REMOUNT, ("size=" + size).c_str()) == 0);
  }

 private:
  fs::path place_;
  bool mounted_ = false;
};

}  // namespace

TEST_CASE("kill -9 in a start, a step or a save loses nothing that was saved, and resumes to equal bits") {
  const Training training([](RunConfig& config) {
    config.train.max_steps = 100;
    config.checkpoint.every = 1;
    config.validation.every = 10;
  });
  training.finish("whole");
  const Philox random(11);
  int64_t reported = 0;
  int in_a_save = 0;
  for (uint64_t round = 0; round < 12; ++round) {
    const bool from_the_start = round % 3 == 0, in_save = round % 3 == 1;
    Program program = training.start("run");
    if (!from_the_start) await(program, [&] { return last_saved(program.err(), "run") > reported; });
    sleep_up_to(from_the_start ? 1000ms : 100ms, random.block(round)[0]);
    if (in_save) await(program, [&] { return is_saving(training.run("run")); });
    program.signal(SIGKILL);
    const Ended ended = program.wait();
    INFO("round " << round << ": " << ended.err);
    REQUIRE((ended.code == 128 + SIGKILL || ended.code == 0));
    if (is_saving(training.run("run"))) ++in_a_save;
    reported = std::max(reported, last_saved(ended.err, "run"));
    REQUIRE(newest_valid_step(training.run("run")) >= reported);
  }
  REQUIRE(in_a_save > 0);
  training.finish("run");
  training.require_equal("run", "whole");
}

TEST_CASE("SIGTERM during validation saves and stops, and the resumed run validates that step again") {
  const Training training([](RunConfig& config) {
    config.validation.every = 4;
    config.validation.sequences = 1000;
  });
  training.tiny().write_tokens("validation", 2, 4000);
  training.finish("whole");
  const int64_t step = GENERATE(4, 8);  // the last step too
  {
    Program program = training.start("run");
    await(program, [&] { return contains(program.err(), concat("step ", step, "/8")); });
    std::this_thread::sleep_for(20ms);  // its validation, which takes a second, has begun
    program.signal(SIGTERM);
    const Ended ended = program.wait();
    INFO(ended.err);
    REQUIRE(ended.code == kStopped);
    REQUIRE(contains(ended.err, concat("stopped at step ", step, ": asked to terminate (SIGTERM)")));
    REQUIRE_FALSE(contains(ended.err, concat("step ", step, " | validation")));
  }
  const auto status = status_of(training.run("run"));
  REQUIRE(status.at("state") == "stopped");
  REQUIRE(status.at("exit_code") == kStopped);
  REQUIRE(newest_valid_step(training.run("run")) == step);
  {
    Program program = training.start("run");  // killed with this block, after the validation
    await(program, [&] { return contains(program.err(), concat("step ", step, " | validation")); });
  }
  training.finish("run");
  training.require_equal("run", "whole");
}

TEST_CASE("SLURM's end time stops and saves a run while there is a minute left") {
  const Training training([](RunConfig& config) {
    config.schedule = {.type = ScheduleType::constant};
    config.train.max_steps = 1'000'000;
  });
  const auto end = std::time(nullptr) + 66;
  const Ended ended =
      training
          .start("run", "",
                 [&] { ::setenv("SLURM_JOB_END_TIME", std::to_string(end).c_str(), /*overwrite=*/1); })
          .wait();
  INFO(ended.err);
  REQUIRE(ended.code == kStopped);
  REQUIRE(contains(ended.err, "the SLURM job is about to end"));
  const int64_t left = end - std::time(nullptr);
  REQUIRE(left <= 60);
  REQUIRE(left > 45);
  REQUIRE(status_of(training.run("run")).at("state") == "stopped");
  const int64_t step = newest_valid_step(training.run("run"));
  REQUIRE(step > 0);
  const std::string two_more =
      "--allow-change train.max_steps --set train.max_steps=" + std::to_string(step + 2);
  training.finish("run", two_more);
  training.finish("whole", two_more);
  training.require_equal("run", "whole");
}

TEST_CASE("a full disk ends a run with one message, and its last checkpoint is where it goes on from") {
  const Training training([](RunConfig& config) {
    config.checkpoint.every = 1;
    config.checkpoint.keep_last = 100;
  });
  training.finish("whole");
  const SmallDisk disk(training.run("run"), "2m");
  if (!disk.is_mounted()) {
    WARN("not tested: this user may not mount a small file system");
    return;
  }
  const Ended ended = training.start("run").wait();
  INFO(ended.err);
  REQUIRE(ended.code == kBadInput);
  const int64_t step = last_saved(ended.err, "run");
  REQUIRE(step > 0);
  REQUIRE(contains(only_error(ended.err), concat("no space for the checkpoint of step ", step + 1)));
  REQUIRE(contains(only_error(ended.err), "earlier ones are untouched"));
  REQUIRE(status_of(training.run("run")).at("state") == "failed");
  REQUIRE(status_of(training.run("run")).at("exit_code") == kBadInput);
  REQUIRE(newest_valid_step(training.run("run")) == step);
  disk.resize("64m");
  training.finish("run");
  training.require_equal("run", "whole");
}

TEST_CASE(
    "a write that fails in the middle of a save is one message, and the checkpoint before it is valid") {
  const Training training([](RunConfig& config) { config.checkpoint.every = 2; });
  training.finish("whole");
  {
    Program program = training.start("run");
    await(program, [&] { return last_saved(program.err(), "run") > 0; });
    program.signal(SIGKILL);
  }
  const int64_t step = newest_valid_step(training.run("run"));
  REQUIRE(step > 0);
  REQUIRE(step < 8);
  const auto limit_files = [] {
    const rlimit limit{200'000, 200'000};  // more than the logs, less than the tensors
    ::setrlimit(RLIMIT_FSIZE, &limit);
  };
  const Ended ended = training.start("run", "", limit_files).wait();
  INFO(ended.err);
  REQUIRE(ended.code == kBadInput);
  REQUIRE(contains(only_error(ended.err), ".safetensors: File too large (the limit on the size of a file"));
  REQUIRE(contains(only_error(ended.err), "is not saved, earlier ones are untouched"));
  REQUIRE(newest_valid_step(training.run("run")) == step);
  REQUIRE_FALSE(is_saving(training.run("run")));
  training.finish("run");
  training.require_equal("run", "whole");
}
