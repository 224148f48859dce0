// Token shards in Megatron's .bin/.idx format (an existing Megatron corpus loads as it is), and llm.c's .bin.
//
// .idx, little-endian: 9-byte magic "MMIDIDX\0\0", u64 version 1, u8 dtype code (4 i32, 8 u16), u64 sequence
// count, u64 boundary count (documents + 1), then i32 lengths in tokens, i64 byte offsets, i64 document
// boundaries in sequences. .bin: the bare tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace transxssm {

// A memory-mapped file, read-only.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& file);  // throws InputError
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// One shard. Opening checks magic, sizes and that the index fits the data: InputError names the file and what
// is wrong. Opening a large shard costs no more than mapping it (no pass over the documents).
class TokenFile {
 public:
  // `prefix` is the path without .bin / .idx; a llm.c shard is named with its .bin (and has no .idx).
  explicit TokenFile(const std::filesystem::path& prefix);

  int64_t num_tokens() const;
  int64_t num_documents() const;
  // First token of document d; d == num_documents() gives num_tokens().
  int64_t document_begin(int64_t document) const;
  // The document that holds token `token`.
  int64_t document_of(int64_t token) const;
  // Copies tokens [begin, begin + out.size()).
  void read(int64_t begin, std::span<int32_t> out) const;
  // Goes through the whole index, which opening does not: sequences must follow each other without gaps and
  // documents be in order. InputError names the first that is not.
  void verify_index() const;
  const std::filesystem::path& prefix() const;    // as TokenFile takes it
  const std::filesystem::path& bin_path() const;  // for messages

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

// Writes a shard: .bin grows as documents come, .idx is written by finish(). Both carry temporary names until
// finish() has fsynced and renamed them, .idx last, so a shard with an .idx is complete.
class TokenFileWriter {
 public:
  TokenFileWriter(const std::filesystem::path& prefix,
                  int64_t vocab_size);  // u16 below 65 500 tokens, else i32
  ~TokenFileWriter();
  void add_document(std::span<const int32_t> tokens);
  void finish();
  int64_t num_tokens() const;
  int64_t num_documents() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The shards a data path stands for: a prefix, a folder of shards or a glob, sorted by name. InputError when
// none.
std::vector<std::filesystem::path> find_token_files(const std::string& path);

}  // namespace transxssm
