// manifest.json of a checkpoint: which elements of which tensor lie in which shard, with checksums, and
// everything that isn't a tensor. It is written last, and carries a checksum of its own: a folder without a
// whole manifest is no checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/state.h"

namespace transxssm {

// Checksums are those of so many bytes each, so that a part of a tensor can be read and checked alone.
inline constexpr uint64_t kChecksumBytes = uint64_t{4} << 20;

// Elements of a tensor that lie in one shard, one after the other.
struct TensorPiece {
  ElementRange elements;
  std::string shard;                   // file name beside the manifest
  std::vector<std::string> checksums;  // hash_bytes of each kChecksumBytes; one of nothing for an empty piece
};

struct TensorRecord {
  std::string dtype;  // as safetensors writes it: F32, BF16, ...
  std::vector<int64_t> shape;
  std::vector<TensorPiece> pieces;  // in order, without gaps

  int64_t numel() const;
};

using TensorRecords = std::map<std::string, TensorRecord>;

// Under which name a piece lies in its shard: a tensor in one piece under its own, with its shape; others
// flat under NAME[FIRST:END].
std::string piece_name(const std::string& tensor, const TensorRecord& record, const TensorPiece& piece);

nlohmann::json to_json(const TensorRecords& tensors);
TensorRecords tensors_from(const nlohmann::json& tree);

// Puts what ranks have written of each tensor together. Throws unless their pieces are the whole of it.
TensorRecords joined(const std::vector<TensorRecords>& by_rank);

struct Manifest {
  int64_t step = 0;
  int64_t save_index = 0;  // counts the saves into one checkpoints folder: the newest has the highest
  std::string created;     // UTC
  uint64_t bytes = 0;      // of all tensors
  TensorRecords tensors;
  nlohmann::json values = nlohmann::json::object();  // StateDict::values
  nlohmann::json run = nlohmann::json::object();     // from the trainer: config, versions, loss, ...
};

inline constexpr const char* kManifestName = "manifest.json";

// The text of manifest.json, checksum included.
std::string manifest_text(const Manifest& manifest);

// Reads and checks `folder`/manifest.json, not the tensors. Throws InputError that names the file.
Manifest read_manifest(const std::filesystem::path& folder);

}  // namespace transxssm
