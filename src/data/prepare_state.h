// What `data prepare` keeps on disk to go on after it was killed, and how a run is compared with an earlier
// one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/corpus_manifest.h"
#include "data/prepare.h"
#include "data/text_reader.h"
#include "data/tokenizer.h"

namespace transxssm {

// The first document that is not in a finished segment.
struct InputPosition {
  size_t source = 0;
  int64_t block = 0;           // within the source
  int64_t document = 0;        // within the block, as for_each_document counts
  int64_t number = 0;          // documents before it that had text (parts of long ones not counted)
  bool in_validation = false;  // where the document before it went, for a part that goes on with it
  std::string digest;          // standard input: of the bytes up to the end of the block
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(InputPosition, source, block, document, number, in_validation, digest)

// Documents with a key up to this one go to validation (`--validation-documents`).
struct SelectionLimit {
  uint64_t hash = 0;
  int64_t number = -1;
  auto operator<=>(const SelectionLimit&) const = default;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SelectionLimit, hash, number)

struct PrepareState {
  nlohmann::json identity;
  CorpusCounts counts;                        // of the finished segments
  std::vector<ShardRecord> shards;            // finished training shards
  std::vector<ShardRecord> validation_parts;  // finished, not yet gathered
  InputPosition next;
  std::optional<SelectionLimit> limit;
};

// Everything that decides the bytes of the output: options, tokenizer and sources with their hashes (that of
// standard input is empty). Reads every source once.
nlohmann::json corpus_identity(const PrepareOptions& options, const Tokenizer& tokenizer,
                               const std::vector<TextSource>& sources);

// Throws InputError, naming what differs, unless `now` is the identity of what is in `folder`.
void expect_same_identity(const nlohmann::json& before, const nlohmann::json& now,
                          const std::filesystem::path& folder);

std::optional<PrepareState> read_prepare_state(const std::filesystem::path& folder);
void write_prepare_state(const std::filesystem::path& folder, const PrepareState& state);
void remove_prepare_state(const std::filesystem::path& folder);

}  // namespace transxssm
