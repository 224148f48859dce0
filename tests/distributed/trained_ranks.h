// Training by several ranks, each a process of its own.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "distributed/forked_ranks.h"
#include "support/tiny_run.h"
#include "trainer/launch.h"

namespace transxssm::test {

class TrainedRanks {
 public:
  TrainedRanks(const RunConfig& config, int size, int expected_exit_code = 0) {
    const auto train = [=](const RankEnvironment& environment) {
      const int code = launch_training(config, {}, Mesh::join(environment, kTestTimeout));
      expect(code == expected_exit_code, concat("exit code ", code));
    };
    for (int rank = 0; rank < size; ++rank) ranks_.push_back(std::make_unique<ForkedRank>(train));
    store_ = std::make_unique<LocalStore>();
    for (int rank = 0; rank < size; ++rank)
      ranks_[static_cast<size_t>(rank)]->start(store_->environment(rank, size));
  }

  pid_t process(size_t rank) const { return ranks_[rank]->process(); }

  // What went wrong, by rank.
  std::vector<std::string> wait() const {
    std::vector<std::string> errors;
    for (const auto& rank : ranks_) errors.push_back(rank->wait());
    return errors;
  }
  bool end_well() const { return wait() == std::vector<std::string>(ranks_.size()); }

 private:
  std::vector<std::unique_ptr<ForkedRank>> ranks_;
  std::unique_ptr<LocalStore> store_;
};

// Losses of metrics.jsonl, training and validation, in order.
inline std::vector<double> losses_of(const RunConfig& config) {
  std::vector<double> losses;
  for (const auto& row : metric_rows(config.train.run_dir)) losses.push_back(row.at("loss"));
  return losses;
}

inline double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  expect(a.size() == b.size(), concat(a.size(), " losses and ", b.size()));
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]) / b[i]);
  return largest;
}

}  // namespace transxssm::test
