// Reading one checkpoint folder. Every tensor's checksum is verified as it is read.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include <ATen/core/Tensor.h>

#include "checkpoint/manifest.h"
#include "checkpoint/safetensors.h"
#include "core/state.h"

namespace transxssm {

class CheckpointReader {
 public:
  // Reads the manifest. Throws InputError when `folder` is no whole checkpoint.
  explicit CheckpointReader(std::filesystem::path folder);

  const std::filesystem::path& folder() const { return folder_; }
  const Manifest& manifest() const { return manifest_; }

  // One tensor on the CPU. Throws InputError naming it when it is missing or damaged.
  at::Tensor read(const std::string& name) const;

  // The tensors whose name `wanted` accepts (default: all) and the values.
  StateDict load(const std::function<bool(const std::string& name)>& wanted = {}) const;

  // Reads everything. Throws InputError naming the first damaged tensor.
  void verify() const;

 private:
  const SafetensorsFile& shard(const std::string& name) const;

  std::filesystem::path folder_;
  Manifest manifest_;
  mutable std::map<std::string, std::unique_ptr<SafetensorsFile>> shards_;  // opened when first needed
};

}  // namespace transxssm
