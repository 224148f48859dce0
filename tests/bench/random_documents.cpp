// Lengths as the corpus has them, the same for a seed.
#include "bench/random_documents.h"

#include <algorithm>

#include "support/catch.h"

using namespace transxssm::bench;

TEST_CASE("random documents: median 606, mean 1366, rows begin with one") {
  const auto starts = random_document_starts(2, 8'000'000, 7);
  REQUIRE(starts == random_document_starts(2, 8'000'000, 7));
  REQUIRE(starts != random_document_starts(2, 8'000'000, 8));
  std::vector<int64_t> lengths;
  for (const auto& row : starts) {
    REQUIRE(row.front() == 0);
    REQUIRE(std::is_sorted(row.begin(), row.end()));
    for (size_t i = 1; i < row.size(); ++i) lengths.push_back(row[i] - row[i - 1]);
  }
  std::sort(lengths.begin(), lengths.end());
  REQUIRE(lengths[lengths.size() / 2] == Approx(606).epsilon(0.05));
  REQUIRE(16e6 / static_cast<double>(lengths.size()) == Approx(1366).epsilon(0.1));
}
