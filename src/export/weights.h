// The weights of an exported folder: model.safetensors, or shards with an index.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "checkpoint/safetensors.h"
#include "config/model_config.h"
#include "optim/flat_parameters.h"

namespace transxssm {

inline constexpr uint64_t kMaxExportShardBytes = 5'000'000'000;

// Writes every tensor of exported_tensors(config), one at a time in memory, in `dtype` except where the table
// asks for full precision. Throws InputError naming a tensor with a value that is not finite, or that f16
// can't hold.
void write_exported_weights(const std::filesystem::path& folder, const ModelConfig& config,
                            const FlatParameters& parameters, at::ScalarType dtype,
                            uint64_t max_shard_bytes = kMaxExportShardBytes);

// Gives every weight in place the value that is read back of what write_exported_weights writes.
void round_to_exported(const ModelConfig& config, FlatParameters& parameters, at::ScalarType dtype);

// An exported folder's weights, checked on opening: every tensor of exported_tensors(config), no other, each
// of its shape. Throws InputError naming file and tensor.
class ExportedWeights {
 public:
  ExportedWeights(const std::filesystem::path& folder, const ModelConfig& config);

  // Into parameters made from HybridModel::parameter_specs(config).
  void load(FlatParameters& parameters) const;

 private:
  void open_files(const std::filesystem::path& folder);
  void check() const;

  std::string where_;
  ModelConfig config_;
  std::map<std::string, std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*> file_of_;  // by tensor
};

}  // namespace transxssm
