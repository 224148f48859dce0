#include "trainer/rank_figures.h"

#include <algorithm>
#include <sstream>

#include "core/check.h"

namespace transxssm {

std::string RankFigures::text() const { return concat(own_seconds, " ", memory_peak); }

RankFigures RankFigures::from(const std::string& text) {
  std::istringstream in(text);
  RankFigures figures;
  in >> figures.own_seconds >> figures.memory_peak;
  expect(!in.fail(), concat("a rank's figures can't be read: ", text));
  return figures;
}

RankSpread spread_of_ranks(const std::vector<RankFigures>& ranks) {
  expect(!ranks.empty(), "figures of no rank");
  const auto by_time = [](const auto& a, const auto& b) { return a.own_seconds < b.own_seconds; };
  const auto by_memory = [](const auto& a, const auto& b) { return a.memory_peak < b.memory_peak; };
  const auto [quickest, slowest] = std::minmax_element(ranks.begin(), ranks.end(), by_time);
  const auto fullest = std::max_element(ranks.begin(), ranks.end(), by_memory);
  return {quickest->own_seconds, slowest->own_seconds, static_cast<int>(slowest - ranks.begin()),
          fullest->memory_peak, static_cast<int>(fullest - ranks.begin())};
}

}  // namespace transxssm
