#include "checkpoint/reader.h"

#include "core/check.h"
#include "core/hash.h"

namespace transxssm {
namespace fs = std::filesystem;

CheckpointReader::CheckpointReader(fs::path folder)
    : folder_(std::move(folder)), manifest_(read_manifest(folder_)) {}

const SafetensorsFile& CheckpointReader::shard(const std::string& name) const {
  auto& file = shards_[name];
  if (!file) file = std::make_unique<SafetensorsFile>(folder_ / name);
  return *file;
}

at::Tensor CheckpointReader::read(const std::string& name) const {
  const auto found = manifest_.tensors.find(name);
  expect_input(found != manifest_.tensors.end(), concat(folder_.string(), " has no tensor ", name));
  const TensorRecord& record = found->second;
  try {
    const SafetensorsFile& file = shard(record.shard);
    const auto& entry = file.entry(name);
    expect_input(safetensors_dtype(entry.type) == record.dtype && entry.shape == record.shape,
                 concat(file.path().string(), " has it in another type or shape than the manifest says"));
    at::Tensor tensor = file.read(name);
    expect_input(
        hash_bytes(tensor.const_data_ptr(), tensor.nbytes()) == record.checksum,
        concat(file.path().string(), " holds other bytes for it than were saved: the checksum differs"));
    return tensor;
  } catch (const InputError& error) {
    throw InputError(concat("tensor ", name, " of the checkpoint is damaged: ", error.what()));
  }
}

StateDict CheckpointReader::load(const std::function<bool(const std::string&)>& wanted) const {
  StateDict state;
  for (const auto& [name, record] : manifest_.tensors)
    if (!wanted || wanted(name)) state.tensors[name] = read(name);
  state.values = manifest_.values;
  return state;
}

void CheckpointReader::verify() const {
  for (const auto& [name, record] : manifest_.tensors) read(name);
}

}  // namespace transxssm
