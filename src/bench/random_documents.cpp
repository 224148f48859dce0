#include "bench/random_documents.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/rng.h"

namespace transxssm::bench {

std::vector<std::vector<int64_t>> random_document_starts(int64_t rows, int64_t tokens, uint64_t seed) {
  constexpr double kMedian = 606, kMean = 1366;
  const double sigma = std::sqrt(2 * std::log(kMean / kMedian));
  const Philox random(seed);
  uint64_t drawn = 0;
  const auto length = [&] {
    const double radius = std::sqrt(-2 * std::log(random.uniform(drawn++)));
    const double normal = radius * std::cos(2 * std::numbers::pi * random.uniform(drawn++));
    return std::max<int64_t>(1, std::llround(kMedian * std::exp(sigma * normal)));
  };
  std::vector<std::vector<int64_t>> starts(static_cast<size_t>(rows));
  for (auto& row : starts)
    for (int64_t begin = 0; begin < tokens; begin += length()) row.push_back(begin);
  return starts;
}

std::vector<int32_t> document_offsets(int64_t rows, int64_t tokens, bool documents) {
  std::vector<int32_t> offsets;
  const auto starts = random_document_starts(rows, tokens, /*seed=*/1);
  for (int64_t row = 0; row < rows; ++row)
    for (const int64_t begin : starts[static_cast<size_t>(row)])
      if (documents || begin == 0) offsets.push_back(static_cast<int32_t>(row * tokens + begin));
  offsets.push_back(static_cast<int32_t>(rows * tokens));
  return offsets;
}

}  // namespace transxssm::bench
