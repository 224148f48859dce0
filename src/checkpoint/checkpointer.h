// Saving checkpoints of a run: written beside, fsynced, renamed, then older ones are removed by the retention
// rules. Ranks that train together write side by side, each what it holds; the first one makes what all have
// written a checkpoint. Loading is checkpoint/reader.h; finding is checkpoint/locate.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include <nlohmann/json.hpp>

#include "checkpoint/manifest.h"
#include "checkpoint/retention.h"
#include "core/state.h"
#include "parallel/mesh.h"

namespace transxssm {

class Checkpointer {
 public:
  static constexpr uint64_t kMaxShardBytes = uint64_t{4} << 30;

  // `folder` is RUN/checkpoints, the same for all ranks. The first rank makes it and holds the run's lock: it
  // clears away what a dead process left unfinished there, so construct this before looking for the newest
  // checkpoint. `mesh` outlives this object.
  Checkpointer(std::filesystem::path folder, Retention retention, const Mesh& mesh,
               uint64_t max_shard_bytes = kMaxShardBytes);
  // Of a process alone.
  Checkpointer(std::filesystem::path folder, Retention retention, uint64_t max_shard_bytes = kMaxShardBytes);

  // Saves as step `step` the tensors of the ranks' states, of which each has all or a part, and the values of
  // the first rank's; returns the checkpoint's folder, durable by then. All ranks call it. `run`, of the
  // first rank, goes into the manifest: config, versions, counters, and "loss" (a number), which `checkpoint
  // list` shows. Throws InputError, on all ranks, when there is no space or no right to write; earlier
  // checkpoints are as they were then. A checkpoint of the same step is replaced.
  std::filesystem::path save(int64_t step, const StateDict& state, const nlohmann::json& run);

 private:
  void clear_leftovers() const;
  std::filesystem::path begin(int64_t step, uint64_t bytes) const;
  TensorRecords write_everything(const std::filesystem::path& temporary, const StateDict& state) const;
  void commit(const std::filesystem::path& temporary, const Manifest& manifest);
  void put_in_place(const std::filesystem::path& temporary, const std::filesystem::path& final_place) const;
  void remove_old();
  std::string remove_old(const DamageOf& damage);

  const Mesh& mesh_;
  std::filesystem::path folder_;
  Retention retention_;
  uint64_t max_shard_bytes_;
  int64_t next_save_index_ = 0;
  std::map<std::filesystem::path, int64_t> verified_;  // save_index of checkpoints whose checksums held
};

}  // namespace transxssm
