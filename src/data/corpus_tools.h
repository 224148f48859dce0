// Looking into token shards: `data inspect` and `data verify`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace transxssm {

struct InspectOptions {
  std::string path;  // a corpus folder of `data prepare`, a folder of shards, a shard or a glob
  std::filesystem::path tokenizer;  // empty: the one in the corpus folder, if any
  std::optional<std::pair<int64_t, int64_t>>
      documents;        // first and last to print, counted over all shards from 0
  bool tokens = false;  // print ids and pieces instead of text
};

// Prints counts, or the documents asked for. Throws InputError when there is nothing at `path`, it is
// damaged, a document does not exist, or text is wanted and there is no tokenizer.
void inspect_corpus(const InspectOptions& options, std::ostream& out);

// "7" or "3..9", from 0. Throws InputError.
std::pair<int64_t, int64_t> parse_document_range(const std::string& text);

struct VerifyReport {
  int64_t shards = 0;
  int64_t documents = 0;
  int64_t tokens = 0;
  std::vector<std::string> damage;  // one message each: which file and what is wrong; empty: all is well
  bool has_manifest = false;        // without one, counts and checksums could not be compared
  int64_t vocab_size = 0;  // ids were checked against it; 0: not known, so only for being no less than 0
};

// Checks every shard: index, sizes, token ids; and, for a corpus of `data prepare`, document borders, counts
// and checksums of the manifest, missing and additional shards, and the tokenizer.
VerifyReport verify_corpus(const std::string& path, const std::filesystem::path& tokenizer);

}  // namespace transxssm
