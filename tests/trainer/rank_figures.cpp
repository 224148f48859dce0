// Who keeps the others waiting, and whose memory is fullest.
#include "trainer/rank_figures.h"

#include "support/catch.h"
#include "trainer/metrics.h"
#include "trainer/progress.h"

using namespace transxssm;

TEST_CASE("rank_figures: survive as text, and the slowest and fullest ranks are found") {
  std::vector<RankFigures> ranks;
  for (const RankFigures& figures : {RankFigures{0.5, 7}, RankFigures{0.4, 9}, RankFigures{0.625, 8}})
    ranks.push_back(RankFigures::from(figures.text()));
  const RankSpread spread = spread_of_ranks(ranks);
  CHECK(spread.slowest == 2);
  CHECK(spread.fullest == 1);
  CHECK(spread.memory_peak == 9);
  CHECK(spread.least_seconds == 0.4);
  CHECK(spread.most_seconds == 0.625);
  CHECK_THROWS(RankFigures::from("quick"));
}

TEST_CASE("rank_figures: the console line names a rank that lags, and rows of one rank have none of it") {
  TrainMetrics row;
  row.step_time_seconds = 2;
  row.ranks = RankMetrics{.communication_seconds = 0.5,
                          .exposed_communication_seconds = 0.05,
                          .exposed_communication_total = 1,
                          .rank_step_seconds_min = 1.5,
                          .rank_step_seconds_max = 1.8,
                          .slowest_rank = 3,
                          .fullest_rank = 1};
  CHECK(progress_line(row, 10).find("| comm 2.5% | rank 3 lags 20%") != std::string::npos);
  CHECK(to_json(row).at("slowest_rank") == 3);
  row.ranks->rank_step_seconds_max = 1.51;
  CHECK(progress_line(row, 10).find("lags") == std::string::npos);
  row.ranks.reset();
  CHECK_FALSE(to_json(row).contains("slowest_rank"));
  CHECK(progress_line(row, 10).find("comm") == std::string::npos);
}
