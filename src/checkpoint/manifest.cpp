#include "checkpoint/manifest.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "core/atomic_file.h"
#include "core/check.h"
#include "core/hash.h"

namespace transxssm {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr const char* kFormat = "transxssm checkpoint";
constexpr int kFormatVersion = 2;

// Bytes that aren't UTF-8 (a path in the config) become U+FFFD instead of an exception.
std::string dump(const json& tree, int indent) {
  return tree.dump(indent, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace);
}

// Of the content, whatever the white space: keys are sorted and numbers are written so that they read back
// equal.
std::string checksum_of(const json& tree) {
  const std::string text = dump(tree, -1);
  return hash_bytes(text.data(), text.size());
}

json to_json(const TensorPiece& piece) {
  return {{"first", piece.elements.first},
          {"count", piece.elements.count},
          {"shard", piece.shard},
          {"xxh3", piece.checksums}};
}

TensorPiece piece_from(const json& tree) {
  return {{tree.at("first"), tree.at("count")}, tree.at("shard"), tree.at("xxh3")};
}

bool is_whole(const TensorRecord& record) {
  int64_t end = 0;
  for (const TensorPiece& piece : record.pieces) {
    if (piece.elements.first != end) return false;
    end += piece.elements.count;
  }
  return end == record.numel() && !record.pieces.empty();
}

}  // namespace

int64_t TensorRecord::numel() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

std::string piece_name(const std::string& tensor, const TensorRecord& record, const TensorPiece& piece) {
  const auto [first, count] = piece.elements;
  return count == record.numel() ? tensor : concat(tensor, "[", first, ":", first + count, "]");
}

json to_json(const TensorRecords& tensors) {
  json tree = json::object();
  for (const auto& [name, record] : tensors) {
    json pieces = json::array();
    for (const TensorPiece& piece : record.pieces) pieces.push_back(to_json(piece));
    tree[name] = {{"dtype", record.dtype}, {"shape", record.shape}, {"pieces", std::move(pieces)}};
  }
  return tree;
}

TensorRecords tensors_from(const json& tree) {
  TensorRecords tensors;
  for (const auto& [name, fields] : tree.items()) {
    TensorRecord& record = tensors[name];
    record = {fields.at("dtype"), fields.at("shape"), {}};
    for (const json& piece : fields.at("pieces")) record.pieces.push_back(piece_from(piece));
  }
  return tensors;
}

TensorRecords joined(const std::vector<TensorRecords>& by_rank) {
  TensorRecords all;
  for (const TensorRecords& records : by_rank) {
    for (const auto& [name, record] : records) {
      const auto [found, is_new] = all.try_emplace(name, record);
      if (is_new) continue;
      expect(found->second.dtype == record.dtype && found->second.shape == record.shape,
             concat("ranks save tensor ", name, " in different types or shapes"));
      found->second.pieces.insert(found->second.pieces.end(), record.pieces.begin(), record.pieces.end());
    }
  }
  for (auto& [name, record] : all) {
    std::sort(record.pieces.begin(), record.pieces.end(),
              [](const auto& a, const auto& b) { return a.elements.first < b.elements.first; });
    expect(is_whole(record), concat("the parts of tensor ", name, " that ranks save are not all of it"));
  }
  return all;
}

std::string manifest_text(const Manifest& manifest) {
  json tree = {{"format", kFormat},
               {"format_version", kFormatVersion},
               {"step", manifest.step},
               {"save_index", manifest.save_index},
               {"created", manifest.created},
               {"bytes", manifest.bytes},
               {"tensors", to_json(manifest.tensors)},
               {"values", manifest.values},
               {"run", manifest.run}};
  tree["checksum"] = checksum_of(tree);
  return dump(tree, 1) + "\n";
}

Manifest read_manifest(const fs::path& folder) {
  const fs::path file = folder / kManifestName;
  json tree = json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  expect_input(tree.is_object() && tree.value("format", json()) == kFormat,
               concat(file.string(), " is not the manifest of a checkpoint, or it is damaged"));
  expect_input(tree.value("format_version", json()) == kFormatVersion,
               concat(file.string(), ": format version ", tree.value("format_version", json()).dump(),
                      "; this program reads version ", kFormatVersion));
  const json checksum = tree.value("checksum", json());
  tree.erase("checksum");
  expect_input(checksum == checksum_of(tree), concat(file.string(), " is damaged: its checksum differs"));
  try {
    Manifest manifest{.step = tree.at("step"),
                      .save_index = tree.at("save_index"),
                      .created = tree.at("created"),
                      .bytes = tree.at("bytes"),
                      .tensors = {},
                      .values = std::move(tree.at("values")),
                      .run = std::move(tree.at("run"))};
    manifest.tensors = tensors_from(tree.at("tensors"));
    for (const auto& [name, record] : manifest.tensors)
      expect_input(is_whole(record),
                   concat(file.string(), " is damaged: tensor ", name, " is not all there"));
    return manifest;
  } catch (const json::exception& error) {
    throw InputError(concat(file.string(), " is damaged: ", error.what()));
  }
}

}  // namespace transxssm
