// Reading one checkpoint folder. Checksums are verified as it is read.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
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
  // Elements of one, flat. Little more is read.
  at::Tensor read(const std::string& name, const ElementRange& elements) const;

  // Tensors and values. `wanted` says which elements of a tensor, or nothing for all of it; those beyond its
  // end are left out.
  StateDict load(
      const std::function<std::optional<ElementRange>(const std::string& name)>& wanted = {}) const;

  // Reads everything, or the share of one of several readers. Throws InputError naming the first damaged
  // tensor.
  void verify(size_t share = 0, size_t shares = 1) const;

 private:
  const SafetensorsFile& shard(const std::string& name) const;
  // The part number `number` of a piece that has a checksum of its own; verified.
  void read_part(const std::string& tensor, const TensorRecord& record, const TensorPiece& piece,
                 size_t number, void* to) const;

  std::filesystem::path folder_;
  Manifest manifest_;
  mutable std::map<std::string, std::unique_ptr<SafetensorsFile>> shards_;  // opened when first needed
};

}  // namespace transxssm
