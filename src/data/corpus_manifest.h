// manifest.json of a prepared corpus: what it was made from and what it holds.
//
//   DIR/train/shard-00000.bin, .idx, …   training documents
//   DIR/val/shard-00000.bin, .idx, …     validation documents, when there are any
//   DIR/tokenizer.model                  the tokenizer that made the tokens
//   DIR/manifest.json                    written last
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace transxssm {

struct ShardRecord {
  std::string split;  // train or val
  std::string name;   // path from DIR, without .bin and .idx
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t text_bytes = 0;
  std::string bin_hash;
  std::string idx_hash;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ShardRecord, split, name, documents, tokens, text_bytes, bin_hash,
                                   idx_hash)

// What the documents of the input came to. Documents of more than 16 MiB of text count once for each part.
struct CorpusCounts {
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t text_bytes = 0;
  int64_t empty = 0;    // documents without text, left out
  int64_t skipped = 0;  // bad lines or texts, left out with --skip-bad
  int64_t parts = 0;    // documents that go on with one that was too long
  int64_t unknown = 0;  // <unk> tokens
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CorpusCounts, documents, tokens, text_bytes, empty, skipped, parts,
                                   unknown)

struct CorpusManifest {
  std::filesystem::path folder;  // DIR
  nlohmann::json identity;       // tokenizer, options and sources: what decides the bytes
  CorpusCounts counts;
  std::vector<ShardRecord> shards;

  std::string tokenizer_hash() const { return identity.at("tokenizer").at("hash").get<std::string>(); }
  int64_t vocab_size() const { return identity.at("tokenizer").at("vocab_size").get<int64_t>(); }
};

// DIR/manifest.json, or nothing. Throws InputError when it is damaged.
std::optional<CorpusManifest> read_corpus_manifest(const std::filesystem::path& folder);

// The manifest of the corpus that a data path (DIR, DIR/train, a shard or a glob in it) belongs to, or
// nothing for data that `data prepare` did not make.
std::optional<CorpusManifest> find_manifest(const std::string& data_path);

void write_manifest(const CorpusManifest& manifest);

}  // namespace transxssm
