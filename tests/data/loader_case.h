// What tests of the loader read, and how they name sequences.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "data/loader.h"
#include "shard_fixtures.h"

namespace transxssm::fixtures {

inline constexpr int64_t kSeqLen = 4;
inline constexpr int32_t kSourceStride = 10000;  // first token of a source: which source a window is from

inline DataConfig config(const TempFolder& folder,
                         const std::vector<std::pair<std::string, double>>& sources) {
  DataConfig data;
  for (const auto& [name, weight] : sources) data.train.push_back({(folder / name).string(), weight});
  return data;
}

inline LoaderShape shape(int64_t global_batch, int64_t micro_batch, int64_t vocab_size = 60000) {
  return {.seq_len = kSeqLen,
          .global_batch_size = global_batch,
          .micro_batch_size = micro_batch,
          .vocab_size = vocab_size};
}

// Source i has `windows` windows of numbered tokens and a tail that fits no window.
inline void write_sources(const TempFolder& folder, const std::map<std::string, int64_t>& windows) {
  int32_t first = 0;
  for (const auto& [name, count] : windows) {
    write_shard(folder / name, {numbered(count * kSeqLen + 3, first)});
    first += kSourceStride;
  }
}

// First token of each sequence.
inline std::vector<int64_t> sequences(const GlobalBatch& step) {
  std::vector<int64_t> firsts;
  for (const Batch& batch : step.micro_batches) {
    for (int64_t row = 0; row < batch.batch; ++row) firsts.push_back(batch.tokens[row * batch.seq_len]);
  }
  return firsts;
}

}  // namespace transxssm::fixtures
