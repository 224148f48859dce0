#include "checkpoint/reader.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include <ATen/ops/empty.h>

#include "core/check.h"
#include "core/hash.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

// Bytes of a piece that one of its checksums covers.
struct Part {
  uint64_t begin, end;
};

Part part_of(uint64_t piece_bytes, size_t number) {
  const uint64_t begin = number * kChecksumBytes;
  return {begin, std::min(begin + kChecksumBytes, piece_bytes)};
}

size_t parts_of(uint64_t piece_bytes) {
  return std::max<size_t>(1, (piece_bytes + kChecksumBytes - 1) / kChecksumBytes);
}

}  // namespace

CheckpointReader::CheckpointReader(fs::path folder)
    : folder_(std::move(folder)), manifest_(read_manifest(folder_)) {}

const SafetensorsFile& CheckpointReader::shard(const std::string& name) const {
  auto& file = shards_[name];
  if (!file) file = std::make_unique<SafetensorsFile>(folder_ / name);
  return *file;
}

void CheckpointReader::read_part(const std::string& tensor, const TensorRecord& record,
                                 const TensorPiece& piece, size_t number, void* to) const {
  const std::string name = piece_name(tensor, record, piece);
  try {
    const SafetensorsFile& file = shard(piece.shard);
    const auto& entry = file.entry(name);
    const bool whole = piece.elements.count == record.numel();
    const std::vector<int64_t> shape = whole ? record.shape : std::vector{piece.elements.count};
    expect_input(safetensors_dtype(entry.type) == record.dtype && entry.shape == shape &&
                     piece.checksums.size() == parts_of(entry.size),
                 concat(file.path().string(), " has it in another type or shape than the manifest says"));
    const auto [begin, end] = part_of(entry.size, number);
    file.read_bytes_of(name, begin, end - begin, to);
    expect_input(
        hash_bytes(to, end - begin) == piece.checksums[number],
        concat(file.path().string(), " holds other bytes for it than were saved: the checksum differs"));
  } catch (const InputError& error) {
    throw InputError(concat("tensor ", tensor, " of the checkpoint is damaged: ", error.what()));
  }
}

at::Tensor CheckpointReader::read(const std::string& name, const ElementRange& elements) const {
  const auto found = manifest_.tensors.find(name);
  expect_input(found != manifest_.tensors.end(), concat(folder_.string(), " has no tensor ", name));
  const TensorRecord& record = found->second;
  const at::ScalarType type = safetensors_type(record.dtype);
  const uint64_t element_size = c10::elementSize(type);
  const auto bytes = [&](int64_t count) { return static_cast<uint64_t>(count) * element_size; };
  const at::Tensor out = at::empty({elements.count}, type);
  auto* const to = static_cast<char*>(out.mutable_data_ptr());
  std::vector<char> beside(kChecksumBytes);  // for what is not wanted whole
  const uint64_t wanted_begin = bytes(elements.first), wanted_end = bytes(elements.first + elements.count);
  for (const TensorPiece& piece : record.pieces) {
    const uint64_t piece_begin = bytes(piece.elements.first), piece_bytes = bytes(piece.elements.count);
    for (size_t number = 0; number < parts_of(piece_bytes); ++number) {
      const auto [part_begin, part_end] = part_of(piece_bytes, number);
      const uint64_t begin = piece_begin + part_begin, end = piece_begin + part_end;
      const uint64_t from = std::max(begin, wanted_begin), until = std::min(end, wanted_end);
      if (from >= until) continue;
      char* const place = to + (from - wanted_begin);
      if (from == begin && until == end) {
        read_part(name, record, piece, number, place);
        continue;
      }
      read_part(name, record, piece, number, beside.data());
      std::memcpy(place, beside.data() + (from - begin), until - from);
    }
  }
  return out;
}

at::Tensor CheckpointReader::read(const std::string& name) const {
  const auto found = manifest_.tensors.find(name);
  expect_input(found != manifest_.tensors.end(), concat(folder_.string(), " has no tensor ", name));
  return read(name, {0, found->second.numel()}).view(found->second.shape);
}

StateDict CheckpointReader::load(
    const std::function<std::optional<ElementRange>(const std::string&)>& wanted) const {
  StateDict state;
  for (const auto& [name, record] : manifest_.tensors) {
    const int64_t all = record.numel();
    ElementRange range = (wanted ? wanted(name) : std::nullopt).value_or(ElementRange{0, all});
    range.first = std::min(range.first, all);
    range.count = std::min(range.count, all - range.first);
    const at::Tensor values = read(name, range);
    state.tensors[name] = range.count == all ? values.view(record.shape) : values;
    if (range.count != all) state.parts[name] = {record.shape, range.first};
  }
  state.values = manifest_.values;
  return state;
}

void CheckpointReader::verify(size_t share, size_t shares) const {
  size_t all = 0;
  for (const auto& [name, record] : manifest_.tensors)
    for (const TensorPiece& piece : record.pieces) all += piece.checksums.size();
  const size_t begin = all * share / shares, end = all * (share + 1) / shares;
  std::vector<char> bytes(kChecksumBytes);
  size_t next = 0;
  for (const auto& [name, record] : manifest_.tensors)
    for (const TensorPiece& piece : record.pieces)
      for (size_t number = 0; number < piece.checksums.size(); ++number, ++next)
        if (begin <= next && next < end) read_part(name, record, piece, number, bytes.data());
}

}  // namespace transxssm
