// The tensors of a checkpoint as safetensors shards of bounded size.
#pragma once

#include <cstdint>
#include <filesystem>

#include "checkpoint/manifest.h"
#include "core/state.h"

namespace transxssm {

uint64_t total_bytes(const StateDict& state);

// Writes the tensors of `state`, or the parts of them that are in it, into `folder` as
// shard-RANK-NUMBER.safetensors, synced. A shard holds at most `max_shard_bytes`, or a single larger piece.
// Returns what the manifest says about them.
TensorRecords write_shards(const std::filesystem::path& folder, const StateDict& state, int rank,
                           uint64_t max_shard_bytes);

}  // namespace transxssm
