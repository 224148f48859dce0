// A bounded cache from short strings to their token ids. What it holds never changes a result, only the
// speed.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace transxssm {

// Two-way set associative, 64 bytes (a cache line) an entry, 2 MiB in all. Not for several threads at a time.
class WordCache {
 public:
  static constexpr size_t kMaxBytes = 30;
  static constexpr size_t kMaxIds = 8;

  WordCache() : sets_(kSets) {}

  // The ids stored for `word` (1 to kMaxBytes bytes); empty when there are none. Valid until the next
  // store().
  std::span<const int32_t> find(std::string_view word) {
    Set& set = sets_[index_of(word)];
    if (set[0].holds(word)) return set[0].ids();
    if (!set[1].holds(word)) return {};
    std::swap(set[0], set[1]);  // the last one used stays longest
    return set[0].ids();
  }

  // Takes the place of the entry of its set that was not used last.
  void store(std::string_view word, std::span<const int32_t> ids) {
    if (ids.empty() || ids.size() > kMaxIds) return;
    Set& set = sets_[index_of(word)];
    set[1] = set[0];
    Entry& entry = set[0];
    entry.bytes = static_cast<uint8_t>(word.size());
    entry.count = static_cast<uint8_t>(ids.size());
    std::memcpy(entry.word.data(), word.data(), word.size());
    std::copy(ids.begin(), ids.end(), entry.values.begin());
  }

 private:
  static constexpr size_t kSets = size_t{1} << 14;

  struct Entry {
    uint8_t bytes = 0;  // 0: empty
    uint8_t count = 0;
    std::array<char, kMaxBytes> word{};
    std::array<int32_t, kMaxIds> values{};

    bool holds(std::string_view other) const {
      return bytes == other.size() && std::memcmp(word.data(), other.data(), other.size()) == 0;
    }
    std::span<const int32_t> ids() const { return {values.data(), count}; }
  };
  using Set = std::array<Entry, 2>;

  static size_t index_of(std::string_view word) {
    uint64_t hash = word.size();
    for (size_t i = 0; i < word.size(); i += 8) {
      uint64_t part = 0;
      std::memcpy(&part, word.data() + i, std::min<size_t>(8, word.size() - i));
      hash = (hash ^ part) * 0x9E3779B97F4A7C15ULL;
      hash ^= hash >> 32;
    }
    return (hash * 0x9E3779B97F4A7C15ULL) >> 50;
  }

  std::vector<Set> sets_;
};

}  // namespace transxssm
