// The files of `data prepare`: a segment's training shard and validation part, and the gathering of parts
// into shards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "data/corpus_manifest.h"
#include "data/prepare_state.h"
#include "data/token_file.h"

namespace transxssm {

class SegmentWriter {
 public:
  // Training shards and validation parts are numbered on from those in `state`.
  SegmentWriter(std::filesystem::path folder, int64_t vocab_size, const PrepareState& state);
  ~SegmentWriter();

  void add(std::span<const int32_t> tokens, int64_t text_bytes, bool validation);
  int64_t num_tokens() const;

  // Makes the files durable and adds their records to `state`. The writer is used up.
  void finish(PrepareState& state);

 private:
  struct Output;
  std::unique_ptr<Output> open(const char* split, const char* folder, size_t number) const;

  std::filesystem::path folder_;
  int64_t vocab_size_;
  size_t next_shard_;
  size_t next_part_;
  std::unique_ptr<Output> train_;
  std::unique_ptr<Output> validation_;
};

// Writes the validation shards, each of as many parts as fit into `shard_tokens`.
std::vector<ShardRecord> gather_validation(const std::filesystem::path& folder,
                                           const std::vector<ShardRecord>& parts, int64_t shard_tokens,
                                           int64_t vocab_size);

void remove_validation_parts(const std::filesystem::path& folder);

// Removes what an earlier run left in `folder`: manifest, state, shards, parts; and the folders, where
// nothing else is in them.
void remove_prepared_files(const std::filesystem::path& folder);

// Whether there are shards in DIR/train or DIR/val.
bool has_shards(const std::filesystem::path& folder);

}  // namespace transxssm
