#include "trainer/run_lock.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <ctime>
#include <fstream>
#include <optional>
#include <sstream>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/atomic_file.h"
#include "core/check.h"
#include "core/clock.h"
#include "core/logging.h"

namespace transxssm {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

std::string first_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

// Ticks since boot at which process `pid` started; nothing when there is none, or only its zombie.
std::optional<int64_t> start_of(int64_t pid) {
  const std::string line = first_line(concat("/proc/", pid, "/stat"));
  const size_t name_end = line.rfind(')');  // the name before it may hold anything
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(line.substr(name_end + 1));
  std::string state, skipped;
  fields >> state;
  if (state == "Z" || state == "X") return std::nullopt;
  for (int field = 4; field < 22; ++field) fields >> skipped;  // `starttime` is field 22
  int64_t ticks = 0;
  fields >> ticks;
  return ticks;
}

// The file, open and exclusively flock()ed: nobody else is between reading and changing it. Lasts for
// microseconds. File systems without flock() leave a small window in which two processes can both take over a
// stale lock.
class Guard {
 public:
  Guard(const fs::path& file, bool create) : file_(file) {
    for (;;) {
      descriptor_ = ::open(file.c_str(), O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0666);
      if (descriptor_ < 0 && errno == ENOENT && !create) return;
      if (descriptor_ < 0) throw_file_error("cannot lock the run folder: cannot write", file, errno);
      while (::flock(descriptor_, LOCK_EX) != 0 && errno == EINTR) continue;
      struct stat ours {
      }, named{};
      // Its last holder may have removed the file while we waited: then this one has no name any more.
      if (::fstat(descriptor_, &ours) == 0 && ::stat(file.c_str(), &named) == 0 &&
          ours.st_ino == named.st_ino)
        return;
      ::close(descriptor_);
    }
  }
  ~Guard() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  bool is_open() const { return descriptor_ >= 0; }

  // What the file says about its holder; null when it is new or was torn by a crash.
  json content() const { return json::parse(read_file(file_), nullptr, /*allow_exceptions=*/false); }

  void set_holder(const ProcessIdentity& process) {
    json tree = to_json(process);
    tree["locked"] = utc_time();
    const std::string text = tree.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
    errno = ENOSPC;  // a short write sets none
    if (::ftruncate(descriptor_, 0) != 0 ||
        ::pwrite(descriptor_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
      throw_file_error("cannot write", file_, errno);
  }

  double mtime() const {
    struct stat info {};
    expect(::fstat(descriptor_, &info) == 0, "fstat of the lock file");
    return static_cast<double>(info.st_mtim.tv_sec) + 1e-9 * static_cast<double>(info.st_mtim.tv_nsec);
  }

  void touch() { ::futimens(descriptor_, nullptr); }
  void remove() { ::unlink(file_.c_str()); }

 private:
  fs::path file_;
  int descriptor_ = -1;
};

// Now, by the clock that stamps files: that of a file server may differ from this machine's.
double file_clock(const fs::path& beside) {
  const fs::path probe = concat(beside.string(), ".", ::getpid());
  double now = 0;
  {
    Guard file(probe, /*create=*/true);
    file.touch();
    now = file.mtime();
    file.remove();
  }
  return now;
}

std::optional<ProcessIdentity> holder_in(const json& content) {
  try {
    return process_from_json(content);
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

// Why the lock may be taken over; empty when it may not.
std::string excuse(const ProcessIdentity& holder, const ProcessIdentity& self, double age_seconds) {
  if (age_seconds > RunLock::kStaleSeconds)
    return concat("it was not touched for ", static_cast<int64_t>(age_seconds), " seconds");
  if (!holder.same_machine(self)) return "";
  const auto start = start_of(holder.pid);
  if (start && *start == holder.start_ticks) return "";
  return "that process is dead";
}

std::string describe(const ProcessIdentity& process) {
  return concat("process ", process.pid, " on ", process.host);
}

}  // namespace

ProcessIdentity ProcessIdentity::self() {
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  std::error_code unknown;
  const auto pid = static_cast<int64_t>(::getpid());
  return {host, first_line("/proc/sys/kernel/random/boot_id"),
          fs::read_symlink("/proc/self/ns/pid", unknown).string(), pid, start_of(pid).value_or(0)};
}

json to_json(const ProcessIdentity& process) {
  return {{"host", process.host},
          {"boot", process.boot},
          {"pid_namespace", process.pid_namespace},
          {"pid", process.pid},
          {"start_ticks", process.start_ticks}};
}

ProcessIdentity process_from_json(const json& tree) {
  return {tree.at("host"), tree.at("boot"), tree.at("pid_namespace"), tree.at("pid"), tree.at("start_ticks")};
}

RunLock::RunLock(fs::path file, Timing timing)
    : file_(std::move(file)), timing_(timing), self_(ProcessIdentity::self()) {
  const double now = file_clock(file_);
  {
    Guard guard(file_, /*create=*/true);
    if (const auto holder = holder_in(guard.content())) {
      const double age = now - guard.mtime();
      const std::string why = excuse(*holder, self_, age);
      expect_input(!why.empty(),
                   concat("the run folder ", file_.parent_path().string(), " is in use by ",
                          describe(*holder), "; stop that process or choose another train.run_dir",
                          holder->same_machine(self_)
                              ? std::string()
                              : concat(" (if it is dead, its lock expires in ",
                                       static_cast<int64_t>(kStaleSeconds - age) + 1, " seconds)")));
      log_warning(concat("taking over the lock of ", describe(*holder), " on ", file_.parent_path().string(),
                         ": ", why));
    }
    guard.set_holder(self_);
  }
  // Signals are for the threads that know them.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { heartbeat(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

RunLock::~RunLock() {
  {
    const std::lock_guard hold(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
  try {
    Guard guard(file_, /*create=*/false);
    if (guard.is_open() && holder_in(guard.content()) == self_) guard.remove();
  } catch (const std::exception& error) {
    log_warning(concat("the lock of the run folder could not be removed: ", error.what()));
  }
}

void RunLock::heartbeat() {
  std::unique_lock hold(mutex_);
  auto touched = std::chrono::steady_clock::now();
  while (!wake_.wait_for(hold, timing_.heartbeat_every, [this] { return stopping_; })) {
    try {
      // A lock that is gone was removed by a user, or by somebody who took it over while this process stood
      // still and has left since.
      const bool stood_still = std::chrono::steady_clock::now() - touched > timing_.stale_after;
      Guard guard(file_, /*create=*/!stood_still);
      const auto holder = guard.is_open() ? holder_in(guard.content()) : std::nullopt;
      if (holder ? *holder != self_ : stood_still) {
        lost_ = true;
        return;
      }
      if (!holder) guard.set_holder(self_);
      guard.touch();
      touched = std::chrono::steady_clock::now();
    } catch (const std::exception& error) {
      log_warning(concat("the lock of the run folder could not be touched: ", error.what()));
    }
  }
}

void RunLock::expect_held() const {
  expect(!lost_, concat("another process took over the run folder ", file_.parent_path().string(),
                        ", because this one stood still for over two minutes"));
}

}  // namespace transxssm
