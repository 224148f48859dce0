// What ranks tell the first one about their steps: who keeps the others waiting, whose memory is fullest.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace transxssm {

struct RankFigures {
  double own_seconds = 0;  // of a step, without waiting for other ranks
  uint64_t memory_peak = 0;

  std::string text() const;
  static RankFigures from(const std::string& text);
};

struct RankSpread {
  double least_seconds = 0, most_seconds = 0;
  int slowest = 0;  // the rank that the others wait for
  uint64_t memory_peak = 0;
  int fullest = 0;
};

// Of figures by rank; at least one.
RankSpread spread_of_ranks(const std::vector<RankFigures>& ranks);

}  // namespace transxssm
