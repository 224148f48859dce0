// From text to token shards: `data prepare`.
//
// Input is read in order by one thread, cut into blocks, tokenized block by block on all threads, and written
// in order by the calling thread. A segment is the longest run of documents with at most shard_tokens tokens
// (one at least); when it is full, its training documents are a finished shard, its validation documents a
// finished part, and the state file says where the next segment starts. So a run that was killed goes on at
// the last segment, and no byte depends on timing or on the number of threads. At the end the validation
// parts are gathered into shards and the manifest is written.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/corpus_manifest.h"
#include "data/text_reader.h"

namespace transxssm {

struct PrepareOptions {
  std::vector<std::string> inputs;  // as for find_text_sources
  std::filesystem::path tokenizer;
  std::filesystem::path output;  // DIR of corpus_manifest.h
  TextFormat format = TextFormat::automatic;
  std::string text_field = "text";
  bool bos = true;  // EOS always ends a document
  int64_t shard_tokens = 100'000'000;
  double validation_fraction = 0;  // a document goes to validation when its hash falls into this share
  int64_t validation_documents =
      0;                  // or: those with the smallest hashes; needs a pass over the input to find them
  int threads = 0;        // 0: one a core
  bool skip_bad = false;  // leave bad lines out and count them
  bool overwrite = false;
};

// Returns the manifest; when the output is there already and fits, nothing is done. Throws InputError for bad
// input, for an output that was made from other input or with other options, and when it can't be written; a
// first run that fails before a shard is finished leaves nothing behind.
CorpusManifest prepare_corpus(const PrepareOptions& options);

}  // namespace transxssm
