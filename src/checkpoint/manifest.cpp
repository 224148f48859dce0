#include "checkpoint/manifest.h"

#include "core/atomic_file.h"
#include "core/check.h"
#include "core/hash.h"

namespace transxssm {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr const char* kFormat = "transxssm checkpoint";
constexpr int kFormatVersion = 1;

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

json to_json(const TensorRecord& record) {
  return {
      {"dtype", record.dtype}, {"shape", record.shape}, {"shard", record.shard}, {"xxh3", record.checksum}};
}

TensorRecord record_from(const json& tree) {
  return {tree.at("dtype"), tree.at("shape"), tree.at("shard"), tree.at("xxh3")};
}

}  // namespace

std::string manifest_text(const Manifest& manifest) {
  json tensors = json::object();
  for (const auto& [name, record] : manifest.tensors) tensors[name] = to_json(record);
  json tree = {{"format", kFormat},
               {"format_version", kFormatVersion},
               {"step", manifest.step},
               {"save_index", manifest.save_index},
               {"created", manifest.created},
               {"bytes", manifest.bytes},
               {"tensors", std::move(tensors)},
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
    for (const auto& [name, record] : tree.at("tensors").items())
      manifest.tensors[name] = record_from(record);
    return manifest;
  } catch (const json::exception& error) {
    throw InputError(concat(file.string(), " is damaged: ", error.what()));
  }
}

}  // namespace transxssm
