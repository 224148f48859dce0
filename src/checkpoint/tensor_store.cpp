#include "checkpoint/tensor_store.h"

#include <algorithm>
#include <cstdio>
#include <vector>

#include "checkpoint/safetensors.h"
#include "core/hash.h"

namespace transxssm {
namespace {

// In order of names, cut where a shard would grow too large; within a shard larger elements come first.
std::vector<NamedTensors> split(const TensorMap& tensors, uint64_t max_shard_bytes) {
  std::vector<NamedTensors> shards;
  uint64_t filled = 0;
  for (const auto& [name, tensor] : tensors) {
    if (shards.empty() || filled + tensor.nbytes() > max_shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().emplace_back(name, tensor);
    filled += tensor.nbytes();
  }
  for (auto& shard : shards)
    std::stable_sort(shard.begin(), shard.end(), [](const auto& a, const auto& b) {
      return a.second.element_size() > b.second.element_size();
    });
  return shards;
}

std::string shard_name(size_t index, size_t count) {
  char name[64];
  std::snprintf(name, sizeof name, "shard-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

}  // namespace

uint64_t total_bytes(const TensorMap& tensors) {
  uint64_t sum = 0;
  for (const auto& [name, tensor] : tensors) sum += tensor.nbytes();
  return sum;
}

std::map<std::string, TensorRecord> write_shards(const std::filesystem::path& folder,
                                                 const TensorMap& tensors, uint64_t max_shard_bytes) {
  std::map<std::string, TensorRecord> records;
  const auto shards = split(tensors, max_shard_bytes);
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file = shard_name(i, shards.size());
    write_safetensors(folder / file, shards[i], [&](const std::string& name, const void* data, size_t size) {
      const at::Tensor& tensor = tensors.at(name);
      records[name] = {safetensors_dtype(tensor.scalar_type()), tensor.sizes().vec(), file,
                       hash_bytes(data, size)};
    });
  }
  return records;
}

}  // namespace transxssm
