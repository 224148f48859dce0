// Finding checkpoints: RUN/checkpoints/step_00001000/, and the newest one that is whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"

namespace transxssm {

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

// Why the tensors of a checkpoint can't be trusted, or empty when all its checksums hold.
std::string damage_of(const CheckpointEntry& entry);

struct LatestCheckpoint {
  std::optional<std::filesystem::path> folder;
  std::vector<CheckpointEntry> skipped;  // newer or of unknown age, with `problem`
};

// The checkpoint saved last that verifies. `skipped` may hold damaged ones although there is no valid one.
LatestCheckpoint find_latest_valid(const std::filesystem::path& run_or_checkpoints);

// The step folder that a user means by `path`: a step folder, the link `latest`, or the newest valid one of a
// run folder or checkpoints folder (each skipped one is logged with the reason). Throws InputError when there
// is none.
std::filesystem::path resolve_checkpoint(const std::filesystem::path& path);

}  // namespace transxssm
