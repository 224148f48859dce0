// Watches that all ranks get on, and ends this process when one does not. Only for files of this folder.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "parallel/progress.h"

namespace transxssm {

// A thread that tells the other ranks through the store, at every beat, that this process lives and how far
// its collectives have got. When one has waited for longer than the timeout, the rank to blame is the one
// that is silent or has started fewer of them. A rank that is silent for as long is dead wherever the others
// are: each watches the next one. The first rank to know writes the verdict into the store, and
// all end with it: their main threads may wait in a collective for ever.
class Monitor {
 public:
  static constexpr int kFailed = 1;  // exit code

  Monitor(c10::intrusive_ptr<c10d::Store> store, int rank, std::vector<std::string> hosts,
          std::chrono::milliseconds timeout, const CollectiveProgress& progress);
  ~Monitor();
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  // Of collectives. A rank may never be silent for longer than the constructor's timeout, or a shorter one.
  void set_timeout(std::chrono::milliseconds timeout) { timeout_ = timeout; }
  // What is to be done before the process ends with an exit code.
  void on_failure(std::function<void(const std::string& reason, int exit_code)> action);

  // This rank is about to end in order: no verdict concerns it any more.
  void rest() { rests_ = true; }
  // A collective of this rank has failed, say because a connection broke: who is to blame, in a sentence.
  // The others learn it too.
  std::string explain(const std::string& failure);
  // The same of ranks that wait for each other through the store.
  std::string explain_exchange(const std::string& failure);
  // This rank fails for a reason of its own; the others end with that exit code.
  void announce(const std::string& failure, int exit_code = kFailed);

 private:
  struct Sign {  // of life
    std::string beat;
    CollectiveProgress::Seen seen;
  };
  void watch();
  std::chrono::milliseconds beat() const;
  void publish();
  Sign sign_of(int rank) const;
  std::string name_of(int rank) const;
  // Take some beats. Empty when this rank ends meanwhile, the first also when all ranks answer.
  std::string silent_rank();
  std::string blame();
  // This rank fails; the others learn why.
  std::string tell(const std::string& failure, const std::function<std::string()>& find_reason);
  // Whether the next rank has been silent for too long.
  bool next_is_dead();
  // Goes on giving signs of life. Whether this rank ends meanwhile.
  bool ends_within(int beats);
  std::string waiting_verdict(const CollectiveProgress::Seen& seen, std::chrono::milliseconds waited);
  struct Verdict {
    int exit_code = kFailed;
    std::string text;
  };
  static Verdict parsed(const std::string& stored);
  // The verdict of the first rank to have one.
  Verdict propose(const std::string& text, int exit_code = kFailed) const;
  [[noreturn]] void end(const Verdict& verdict, bool is_author);

  c10::intrusive_ptr<c10d::Store> store_;
  const int rank_;
  const std::vector<std::string> hosts_;
  const std::chrono::milliseconds life_timeout_;
  std::atomic<std::chrono::milliseconds> timeout_;
  const CollectiveProgress& progress_;
  std::atomic<int64_t> beats_ = 0;
  std::atomic<bool> rests_ = false;
  std::string next_beat_;
  std::chrono::steady_clock::time_point next_heard_ = std::chrono::steady_clock::now();
  std::function<void(const std::string&, int)> action_;
  bool stopping_ = false;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::thread thread_;
};

}  // namespace transxssm
