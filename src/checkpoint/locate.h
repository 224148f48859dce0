// Finding checkpoints: RUN/checkpoints/step_00001000/, and the newest one that is whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "parallel/mesh.h"

namespace transxssm {

inline constexpr const char* kLatest = "latest";  // the link beside the step folders

std::string step_folder_name(int64_t step);

// A step folder with what its manifest says, or why that can't be read.
struct CheckpointEntry {
  std::filesystem::path folder;
  int64_t step = 0;
  std::optional<Manifest> manifest;
  std::string problem;
};

// The step folders in a run folder or its checkpoints folder (a step folder gives itself), in the order in
// which they were saved; those without a readable manifest come first. Empty when there is none. Only
// manifests are read.
std::vector<CheckpointEntry> list_checkpoints(const std::filesystem::path& path);

// Why the tensors of a checkpoint can't be trusted, or empty when all its checksums hold, or those in the
// share of one of several readers.
std::string damage_of(const CheckpointEntry& entry);
std::string damage_in_share(const CheckpointEntry& entry, size_t share, size_t shares);

using DamageOf = std::function<std::string(const CheckpointEntry&)>;

// Runs `work` on the first rank, where it can look for damage with the help of all ranks, each reading its
// share. All get what it returns, its InputError included.
std::string with_shared_checks(const Mesh& mesh, const std::function<std::string(const DamageOf&)>& work);

struct LatestCheckpoint {
  std::optional<std::filesystem::path> folder;
  std::vector<CheckpointEntry> skipped;  // newer or of unknown age, with `problem`
};

// The checkpoint saved last that verifies. `skipped` may hold damaged ones although there is no valid one.
LatestCheckpoint find_latest_valid(const std::filesystem::path& run_or_checkpoints,
                                   const DamageOf& damage = damage_of);

// The step folder that a user means by `path`: a step folder, the link `latest`, or the newest valid one of a
// run folder or checkpoints folder (each skipped one is logged with the reason), which RUN/latest also names.
// Absolute. Throws InputError when there is none.
std::filesystem::path resolve_checkpoint(const std::filesystem::path& path);

}  // namespace transxssm
