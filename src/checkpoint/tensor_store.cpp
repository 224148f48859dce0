#include "checkpoint/tensor_store.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "core/hash.h"

namespace transxssm {
namespace {

struct Piece {
  std::string tensor;
  std::string name;  // in its shard
  at::Tensor values;
};

// In order of names, cut where a shard would grow too large; within a shard larger elements come first.
std::vector<std::vector<Piece>> split(std::vector<Piece> pieces, uint64_t max_shard_bytes) {
  std::vector<std::vector<Piece>> shards;
  uint64_t filled = 0;
  for (Piece& piece : pieces) {
    if (shards.empty() || filled + piece.values.nbytes() > max_shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    filled += piece.values.nbytes();
    shards.back().push_back(std::move(piece));
  }
  for (auto& shard : shards)
    std::stable_sort(shard.begin(), shard.end(), [](const auto& a, const auto& b) {
      return a.values.element_size() > b.values.element_size();
    });
  return shards;
}

std::string shard_name(int rank, size_t index) {
  char name[64];
  std::snprintf(name, sizeof name, "shard-%05d-%05zu.safetensors", rank, index + 1);
  return name;
}

std::vector<std::string> checksums_of(const void* data, size_t size) {
  std::vector<std::string> checksums;
  const auto* bytes = static_cast<const char*>(data);
  size_t begin = 0;
  do {
    const size_t part = std::min<size_t>(size - begin, kChecksumBytes);
    checksums.push_back(hash_bytes(bytes + begin, part));
    begin += part;
  } while (begin < size);
  return checksums;
}

}  // namespace

uint64_t total_bytes(const StateDict& state) {
  uint64_t sum = 0;
  for (const auto& [name, tensor] : state.tensors) sum += tensor.nbytes();
  return sum;
}

TensorRecords write_shards(const std::filesystem::path& folder, const StateDict& state, int rank,
                           uint64_t max_shard_bytes) {
  TensorRecords records;
  std::vector<Piece> pieces;
  for (const auto& [name, tensor] : state.tensors) {
    const auto part = state.parts.find(name);
    const bool is_part = part != state.parts.end();
    TensorRecord& record = records[name];
    record = {
        safetensors_dtype(tensor.scalar_type()), is_part ? part->second.shape : tensor.sizes().vec(), {}};
    record.pieces.push_back({{is_part ? part->second.first : 0, tensor.numel()}, "", {}});
    pieces.push_back({name, piece_name(name, record, record.pieces[0]), tensor});
  }
  const auto shards = split(std::move(pieces), max_shard_bytes);
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file = shard_name(rank, i);
    NamedTensors named;
    for (const Piece& piece : shards[i]) named.emplace_back(piece.name, piece.values);
    size_t written = 0;
    write_safetensors(folder / file, named, [&](const std::string&, const void* data, size_t size) {
      TensorPiece& piece = records.at(shards[i][written++].tensor).pieces[0];
      piece.shard = file;
      piece.checksums = checksums_of(data, size);
    });
  }
  return records;
}

}  // namespace transxssm
