// The lock of a run folder: one process writes to it at a time.
//
// The file `lock` names its holder (host, process, start of the process) and is touched every ten seconds.
// The lock of a dead process on this host is taken over at once; one that nobody touched for two minutes
// always.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>

#include <nlohmann/json.hpp>

namespace transxssm {

// A process, told apart from later ones that get its number again.
struct ProcessIdentity {
  std::string host;
  std::string boot;           // changes when the machine is started again
  std::string pid_namespace;  // containers number their processes apart
  int64_t pid = 0;
  int64_t start_ticks = 0;  // since boot, /proc/PID/stat

  static ProcessIdentity self();
  bool operator==(const ProcessIdentity&) const = default;
  bool same_machine(const ProcessIdentity& other) const {
    return host == other.host && boot == other.boot && pid_namespace == other.pid_namespace;
  }
};

nlohmann::json to_json(const ProcessIdentity& process);
ProcessIdentity process_from_json(const nlohmann::json& tree);

class RunLock {
 public:
  static constexpr int kStaleSeconds = 120;
  struct Timing {
    std::chrono::milliseconds heartbeat_every = std::chrono::seconds(10);
    std::chrono::milliseconds stale_after = std::chrono::seconds(kStaleSeconds);  // of a process's own lock
  };

  // Throws InputError that names the holder when `file` is locked. A take-over is logged.
  explicit RunLock(std::filesystem::path file) : RunLock(std::move(file), Timing()) {}
  RunLock(std::filesystem::path file, Timing timing);
  ~RunLock();  // removes the file if it is still ours
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  // Throws when another process took the lock over, because this one stood still for over two minutes (a
  // suspended job, a hung file system). Ask before replacing anything in the folder.
  void expect_held() const;

 private:
  void heartbeat();

  std::filesystem::path file_;
  Timing timing_;
  ProcessIdentity self_;
  std::atomic<bool> lost_ = false;
  bool stopping_ = false;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::thread thread_;
};

}  // namespace transxssm
