// Saving checkpoints of a run: written beside, fsynced, renamed, then older ones are removed by the retention
// rules. Loading is checkpoint/reader.h; finding is checkpoint/locate.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include <nlohmann/json.hpp>

#include "checkpoint/retention.h"
#include "core/state.h"

namespace transxssm {

class Checkpointer {
 public:
  static constexpr uint64_t kMaxShardBytes = uint64_t{4} << 30;

  // `folder` is RUN/checkpoints; it is made. The caller holds the run's lock: what a dead process left
  // unfinished in the folder is cleared away here, so construct this before looking for the newest
  // checkpoint.
  Checkpointer(std::filesystem::path folder, Retention retention, uint64_t max_shard_bytes = kMaxShardBytes);

  // Saves `state` as step `step` and returns its folder, durable by then. `run` goes into the manifest:
  // config, versions, counters, and "loss" (a number), which `checkpoint list` shows. Throws InputError when
  // there is no space or no right to write; earlier checkpoints are as they were then. A checkpoint of the
  // same step is replaced.
  std::filesystem::path save(int64_t step, const StateDict& state, const nlohmann::json& run);

 private:
  void clear_leftovers() const;
  Manifest write(const std::filesystem::path& folder, int64_t step, const StateDict& state,
                 const nlohmann::json& run) const;
  void put_in_place(const std::filesystem::path& temporary, const std::filesystem::path& final_place) const;
  void remove_old();

  std::filesystem::path folder_;
  Retention retention_;
  uint64_t max_shard_bytes_;
  int64_t next_save_index_ = 0;
  std::map<std::filesystem::path, int64_t> verified_;  // save_index of checkpoints whose checksums held
};

}  // namespace transxssm
