// How far this rank's collectives have got, as the monitor sees it. Only for files of this folder.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>

namespace transxssm {

// Counts collectives as they start and finish: on the host, or, connected to a GPU, on its stream, where a
// replayed CUDA graph counts as well.
class CollectiveProgress {
 public:
  CollectiveProgress();

  void connect(at::Device device);

  // A number for a collective of this kind, to be given to mark_start().
  uint64_t site(const std::string& description);

  void mark_start(uint64_t site);
  void mark_finish();

  struct Seen {
    uint64_t started = 0;
    uint64_t finished = 0;
    std::string last;  // what was started last
    bool operator==(const Seen&) const = default;
  };
  Seen seen() const;  // from any thread

 private:
  enum Slot { kStarted, kFinished, kSite, kSlots };
  uint64_t load(Slot slot) const;
  void count(Slot slot, uint64_t site);

  at::Tensor host_;      // [kSlots] int64, pinned where a GPU writes it
  at::Tensor counters_;  // [2] int64 on the GPU; undefined on a CPU
  mutable std::mutex mutex_;
  std::map<std::string, uint64_t> sites_;
  std::map<uint64_t, std::string> descriptions_;
};

}  // namespace transxssm
