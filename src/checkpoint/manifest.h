// manifest.json of a checkpoint: which tensor lies in which shard, with checksums, and everything that isn't
// a tensor. It is written last, and carries a checksum of its own: a folder without a whole manifest is no
// checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace transxssm {

struct TensorRecord {
  std::string dtype;  // as safetensors writes it: F32, BF16, ...
  std::vector<int64_t> shape;
  std::string shard;     // file name beside the manifest
  std::string checksum;  // hash_bytes of the contiguous tensor
};

struct Manifest {
  int64_t step = 0;
  int64_t save_index = 0;  // counts the saves into one checkpoints folder: the newest has the highest
  std::string created;     // UTC
  uint64_t bytes = 0;      // of all tensors
  std::map<std::string, TensorRecord> tensors;
  nlohmann::json values = nlohmann::json::object();  // StateDict::values
  nlohmann::json run = nlohmann::json::object();     // from the trainer: config, versions, loss, ...
};

inline constexpr const char* kManifestName = "manifest.json";

// The text of manifest.json, checksum included.
std::string manifest_text(const Manifest& manifest);

// Reads and checks `folder`/manifest.json, not the tensors. Throws InputError that names the file.
Manifest read_manifest(const std::filesystem::path& folder);

}  // namespace transxssm
