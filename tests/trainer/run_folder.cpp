// A run folder: what it holds, who may use it, and when a lock is taken over.
#include "trainer/run_folder.h"

#include <csignal>

#include <fcntl.h>
#include <sys/stat.h>

#include "core/atomic_file.h"
#include "support/catch.h"
#include "support/temp_folder.h"

using namespace transxssm;
using namespace transxssm::test;
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

void write_lock(const fs::path& file, const ProcessIdentity& holder, int age_seconds) {
  write_file_atomically(file, to_json(holder).dump());
  const timespec then{::time(nullptr) - age_seconds, 0};
  const timespec both[2] = {then, then};
  REQUIRE(::utimensat(AT_FDCWD, file.c_str(), both, 0) == 0);
}

// A process of this machine that has ended.
ProcessIdentity dead_process() {
  ProcessIdentity identity = ProcessIdentity::self();
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);
  identity.pid = child;
  return identity;
}

std::string refusal(const fs::path& lock) {
  return input_error_of([&] { RunLock attempt(lock); });
}

}  // namespace

TEST_CASE("run_folder: it is made with its parents and leaves no lock behind") {
  const TempFolder temp;
  {
    const RunFolder run(temp / "runs/first");
    REQUIRE(fs::is_directory(run.tensorboard()));
    REQUIRE(fs::is_directory(run.checkpoints()));
    run.write_config("a: 1\n");
    run.write_manifest({{"version", "1"}, {"path", "\xff"}});
    REQUIRE(read_file(run.path() / "config.yaml") == "a: 1\n");
    REQUIRE(json::parse(read_file(run.path() / "manifest.json")).at("version") == "1");
    REQUIRE(fs::exists(run.path() / "lock"));
  }
  REQUIRE_FALSE(fs::exists(temp / "runs/first/lock"));
}

TEST_CASE("run_folder: status.json says the state, step, reason and exit code") {
  const TempFolder temp;
  const RunFolder run(temp.path());
  const auto status = [&] { return json::parse(read_file(run.path() / "status.json")); };
  run.set_status({RunState::running, 3, "", {}});
  REQUIRE(status().at("state") == "running");
  REQUIRE(status().at("exit_code").is_null());
  run.set_status({RunState::stopped, 70, "SIGTERM", 75});
  REQUIRE(status().at("state") == "stopped");
  REQUIRE(status().at("step") == 70);
  REQUIRE(status().at("reason") == "SIGTERM");
  REQUIRE(status().at("exit_code") == 75);
  REQUIRE(status().at("pid") == ::getpid());
  run.set_status({RunState::finished, 100, "", 0});
  REQUIRE(status().at("state") == "finished");
  run.set_status({RunState::failed, 100, "out of memory", 1});
  REQUIRE(status().at("state") == "failed");
}

TEST_CASE("run_folder: a file of that name, no name and a folder without rights are bad input") {
  const TempFolder temp;
  write_file_atomically(temp / "file", "x");
  REQUIRE(input_error_of([&] { RunFolder run(temp / "file"); }).find("is a file") != std::string::npos);
  REQUIRE(input_error_of([&] { RunFolder run(""); }).find("train.run_dir") != std::string::npos);
  fs::create_directory(temp / "closed");
  fs::permissions(temp / "closed", fs::perms::others_read | fs::perms::others_exec | fs::perms::owner_all);
  const int code = in_child([&] {
    become_ordinary_user();
    const bool existing = !input_error_of([&] { RunFolder run(temp / "closed"); }).empty();
    const bool below = !input_error_of([&] { RunFolder run(temp / "closed/run"); }).empty();
    return existing && below ? 7 : 1;
  });
  REQUIRE((code == 7 || ::geteuid() != 0));  // an ordinary user owns the folder and may write
}

TEST_CASE("run_folder: a lock held by a live process is refused, and the process is named") {
  const TempFolder temp;
  const RunLock held(temp / "lock");
  const std::string why = refusal(temp / "lock");
  REQUIRE(why.find(concat("process ", ::getpid(), " on ")) != std::string::npos);
  REQUIRE(why.find("train.run_dir") != std::string::npos);
  REQUIRE(in_child([&] { return refusal(temp / "lock").empty() ? 1 : 7; }) == 7);
  REQUIRE_NOTHROW(held.expect_held());
}

TEST_CASE("run_folder: who may take over which lock") {
  ProcessIdentity reused = ProcessIdentity::self();  // our number, but started at another time
  reused.start_ticks += 1;
  ProcessIdentity elsewhere = ProcessIdentity::self();
  elsewhere.host += "-other";
  ProcessIdentity other_container = dead_process();
  other_container.pid_namespace = "pid:[1]";
  struct Case {
    std::string name;
    ProcessIdentity holder;
    int age_seconds;
    bool taken_over;
  };
  const Case cases[] = {
      {"dead, same machine", dead_process(), 0, true},
      {"number used again", reused, 0, true},
      {"alive, same machine", ProcessIdentity::self(), 60, false},
      {"alive, untouched for too long", ProcessIdentity::self(), 130, true},
      {"other host, fresh", elsewhere, 60, false},
      {"other host, untouched for too long", elsewhere, 130, true},
      {"other container, fresh", other_container, 60, false},
  };
  for (const Case& c : cases) {
    INFO(c.name);
    const TempFolder temp;
    write_lock(temp / "lock", c.holder, c.age_seconds);
    const std::string why = refusal(temp / "lock");
    INFO(why);
    REQUIRE(why.empty() == c.taken_over);
    REQUIRE(fs::exists(temp / "lock") == !c.taken_over);  // taken over, then released
  }
}

TEST_CASE("run_folder: a torn or empty lock is free") {
  const TempFolder temp;
  for (const std::string content : {"", "{\"host\": \"a", "[]"}) {
    write_file_atomically(temp / "lock", content);
    REQUIRE(refusal(temp / "lock").empty());
  }
}

TEST_CASE("run_folder: the lock of a killed process is taken over at once, a zombie's too") {
  const TempFolder temp;
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const RunLock lock(temp / "lock");
    if (::write(ends[1], "x", 1) == 1) ::pause();
    ::_exit(1);
  }
  char ready = 0;
  REQUIRE(::read(ends[0], &ready, 1) == 1);
  REQUIRE_FALSE(refusal(temp / "lock").empty());
  ::kill(child, SIGKILL);
  siginfo_t info;
  ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);  // dead, not yet reaped
  REQUIRE(refusal(temp / "lock").empty());
  ::waitpid(child, nullptr, 0);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("run_folder: of many processes that start at once exactly one gets the lock") {
  for (const bool stale : {false, true}) {
    const TempFolder temp;
    if (stale) write_lock(temp / "lock", dead_process(), 0);
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    std::vector<pid_t> children;
    for (int i = 0; i < 12; ++i) {
      children.push_back(::fork());
      if (children.back() != 0) continue;
      std::unique_ptr<RunLock> lock;
      const bool won = input_error_of([&] { lock = std::make_unique<RunLock>(temp / "lock"); }).empty();
      const char answer = won ? 'w' : 'l';
      if (::write(ends[1], &answer, 1) == 1 && won) ::pause();  // hold it until killed
      ::_exit(0);
    }
    int winners = 0;
    for (size_t i = 0; i < children.size(); ++i) {
      char answer = 0;
      REQUIRE(::read(ends[0], &answer, 1) == 1);
      winners += answer == 'w';
    }
    for (const pid_t child : children) {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
    ::close(ends[0]);
    ::close(ends[1]);
    REQUIRE(winners == 1);
  }
}

TEST_CASE("run_folder: the heartbeat keeps the lock fresh, notices a take-over and survives a removed file") {
  const TempFolder temp;
  const fs::path file = temp / "lock";
  const auto wait_for = [](const std::function<bool()>& condition) {
    for (int i = 0; i < 500 && !condition(); ++i) ::usleep(10000);
    return condition();
  };
  RunLock lock(file, {.heartbeat_every = std::chrono::milliseconds(5)});
  write_lock(file, ProcessIdentity::self(), 1000);
  REQUIRE(wait_for([&] { return !refusal(file).empty(); }));
  fs::remove(file);
  REQUIRE(wait_for([&] { return fs::exists(file) && !refusal(file).empty(); }));
  REQUIRE_NOTHROW(lock.expect_held());

  ProcessIdentity other = ProcessIdentity::self();
  other.host += "-other";
  write_lock(file, other, 0);
  REQUIRE(wait_for([&] {
    try {
      lock.expect_held();
      return false;
    } catch (const std::runtime_error&) {
      return true;
    }
  }));
}

TEST_CASE("run_folder: a process that stood still while another came and went has lost the lock") {
  const TempFolder temp;
  const fs::path file = temp / "lock";
  RunLock lock(
      file, {.heartbeat_every = std::chrono::milliseconds(5), .stale_after = std::chrono::milliseconds(0)});
  fs::remove(file);
  const auto lost = [&] {
    try {
      lock.expect_held();
      return false;
    } catch (const std::runtime_error&) {
      return true;
    }
  };
  for (int i = 0; i < 500 && !lost(); ++i) ::usleep(10000);
  REQUIRE(lost());
  REQUIRE_FALSE(fs::exists(file));
}

TEST_CASE("run_folder: a lock that another process took over is not removed at the end") {
  const TempFolder temp;
  ProcessIdentity other = ProcessIdentity::self();
  other.host += "-other";
  {
    const RunLock lock(temp / "lock");
    write_lock(temp / "lock", other, 0);
  }
  REQUIRE(process_from_json(json::parse(read_file(temp / "lock"))) == other);
}
