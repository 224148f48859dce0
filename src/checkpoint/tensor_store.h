// The tensors of a checkpoint as safetensors shards of bounded size.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include <ATen/core/Tensor.h>

#include "checkpoint/manifest.h"

namespace transxssm {

using TensorMap = std::map<std::string, at::Tensor>;

uint64_t total_bytes(const TensorMap& tensors);

// Writes shard-00001-of-0000N.safetensors into `folder`, synced. A shard holds at most `max_shard_bytes`, or
// a single larger tensor. Returns what the manifest says about each tensor.
std::map<std::string, TensorRecord> write_shards(const std::filesystem::path& folder,
                                                 const TensorMap& tensors, uint64_t max_shard_bytes);

}  // namespace transxssm
