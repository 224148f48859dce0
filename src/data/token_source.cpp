// Windows over the shards of a data path, with their documents, ids checked.
#include "data/token_source.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "core/counted.h"

namespace transxssm {

namespace {

void check_ids(const TokenFile& file, int64_t begin, std::span<const int32_t> tokens, int64_t vocab_size) {
  const auto [lowest, highest] = std::minmax_element(tokens.begin(), tokens.end());
  if (*lowest >= 0 && *highest < vocab_size) return;
  const auto bad =
      std::find_if(tokens.begin(), tokens.end(), [&](int32_t id) { return id < 0 || id >= vocab_size; });
  throw InputError(concat(file.bin_path().string(), ": token ", begin + (bad - tokens.begin()),
                          " has the id ", *bad, ", outside the vocabulary of ", vocab_size,
                          "; the data was tokenized with another vocabulary, or is damaged"));
}

}  // namespace

TokenSource::TokenSource(const std::string& path) : shard_begins_{0} {
  for (const auto& prefix : find_token_files(path)) {
    shards_.emplace_back(prefix);
    shard_begins_.push_back(shard_begins_.back() + shards_.back().num_tokens());
  }
}

int64_t TokenSource::num_windows(int64_t seq_len) const {
  return std::max<int64_t>(num_tokens() - 1, 0) / seq_len;
}

// Calls visit(shard, from, to) for the parts of [begin, end) in order.
template <class Visit>
void TokenSource::visit_shards(int64_t begin, int64_t end, Visit&& visit) const {
  // The last shard that starts at or before `begin` (a shard without tokens starts where the next one does).
  auto shard = static_cast<size_t>(std::upper_bound(shard_begins_.begin(), shard_begins_.end(), begin) -
                                   shard_begins_.begin() - 1);
  for (; shard < shards_.size() && shard_begins_[shard] < end; ++shard) {
    const int64_t from = std::max(begin, shard_begins_[shard]);
    const int64_t to = std::min(end, shard_begins_[shard + 1]);
    if (from < to) visit(shard, from, to);
  }
}

Window TokenSource::window(int64_t index, int64_t seq_len, int64_t vocab_size) const {
  Window window;
  window.document_starts = document_starts(index, seq_len);
  const int64_t begin = index * seq_len;
  window.tokens.resize(static_cast<size_t>(seq_len + 1));
  visit_shards(begin, begin + seq_len + 1, [&](size_t shard, int64_t from, int64_t to) {
    const std::span<int32_t> tokens(window.tokens.data() + (from - begin), static_cast<size_t>(to - from));
    shards_[shard].read(from - shard_begins_[shard], tokens);
    check_ids(shards_[shard], from - shard_begins_[shard], tokens, vocab_size);
  });
  return window;
}

std::vector<int64_t> TokenSource::document_starts(int64_t index, int64_t seq_len) const {
  expect(index >= 0 && index < num_windows(seq_len), concat("no window ", index));
  const int64_t begin = index * seq_len;
  std::vector<int64_t> starts;
  visit_shards(begin, begin + seq_len + 1, [&](size_t shard, int64_t from, int64_t to) {
    if (from > begin) starts.push_back(from - begin);
    const auto known = starts.size();
    add_document_starts(shard, from - shard_begins_[shard], to - shard_begins_[shard], starts);
    for (size_t i = known; i < starts.size(); ++i) starts[i] += shard_begins_[shard] - begin;
  });
  return starts;
}

// Appends the documents that start inside (begin, end), in tokens of the shard.
void TokenSource::add_document_starts(size_t shard, int64_t begin, int64_t end,
                                      std::vector<int64_t>& starts) const {
  const TokenFile& file = shards_[shard];
  int64_t previous = begin;
  for (int64_t d = file.document_of(begin) + 1; d < file.num_documents(); ++d) {
    const int64_t start = file.document_begin(d);
    expect_input(start >= previous, concat(file.prefix().string(), ".idx: document ", d, " starts at token ",
                                           start, ", before the one ahead of it; damaged"));
    if (start >= end) return;
    if (start > previous) starts.push_back(start);  // equal: the document ahead has no tokens
    previous = start;
  }
}

std::pair<WindowRange, WindowRange> split_windows(const std::string& path, int64_t seq_len,
                                                  const std::vector<double>& split) {
  TokenSource source(path);
  const int64_t windows = source.num_windows(seq_len);
  expect_input(windows >= 1, concat(path, ": holds ", counted(source.num_tokens(), "token"),
                                    "; a window of train.seq_len ", seq_len, " needs ", seq_len + 1));
  int64_t held_out = 0;
  if (!split.empty()) {
    expect_input(split.size() == 2 && split[0] > 0 && split[1] > 0,
                 "data.split: needs two shares above 0, for training and validation, such as [0.999, 0.001]");
    expect_input(windows >= 2, concat(path, ": has one window of train.seq_len ", seq_len,
                                      "; data.split needs two, one for training and one for validation"));
    const double share = split[1] / (split[0] + split[1]);
    held_out = std::clamp<int64_t>(std::llround(share * static_cast<double>(windows)), 1, windows - 1);
  }
  const int64_t training = windows - held_out;
  return {WindowRange{source, 0, training}, WindowRange{source, training, held_out}};
}

}  // namespace transxssm
