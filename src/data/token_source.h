// One data path as a single stream of tokens, whatever the number of shards.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data/packing.h"
#include "data/token_file.h"

namespace transxssm {

// The shards of a path, one after the other in order of name. Each shard starts a document.
class TokenSource {
 public:
  explicit TokenSource(const std::string& path);  // throws InputError

  int64_t num_tokens() const { return shard_begins_.back(); }

  // Windows of T + 1 tokens: window i is tokens [i·T, i·T + T], the last one being only a label. What is left
  // at the end, fewer than T tokens, is not used.
  int64_t num_windows(int64_t seq_len) const;

  // Throws InputError for damaged data and for an id outside [0, vocab_size), naming file, token and id.
  Window window(int64_t index, int64_t seq_len, int64_t vocab_size) const;
  // Of that window, from the index alone: its tokens are not read.
  std::vector<int64_t> document_starts(int64_t index, int64_t seq_len) const;

 private:
  template <class Visit>
  void visit_shards(int64_t begin, int64_t end, Visit&& visit) const;
  void add_document_starts(size_t shard, int64_t begin, int64_t end, std::vector<int64_t>& starts) const;

  std::vector<TokenFile> shards_;
  std::vector<int64_t> shard_begins_;  // [shards + 1]
};

// Consecutive windows of a source.
struct WindowRange {
  TokenSource source;
  int64_t first = 0;
  int64_t count = 0;
};

// The windows of `path` for training and those held out of it: data.split divides them by position (the last
// ones are held out), without a split all are for training. InputError when either part of a split, or the
// path, has none.
std::pair<WindowRange, WindowRange> split_windows(const std::string& path, int64_t seq_len,
                                                  const std::vector<double>& split);

}  // namespace transxssm
