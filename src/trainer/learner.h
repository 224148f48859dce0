// What learns: parameters, the network over them, the optimizer, and one step of it. Training and
// `bench step` make the same from a configuration.
#pragma once

#include <future>
#include <optional>

#include "config/run_config.h"
#include "model/hybrid_model.h"
#include "optim/flat_parameters.h"
#include "optim/optimizer.h"
#include "optim/parameter_exchange.h"
#include "parallel/mesh.h"
#include "trainer/device.h"
#include "trainer/train_step.h"

namespace transxssm {

// How the configuration divides parameters among ranks.
Sharding sharding_of(const RunConfig& config, int64_t rank, int64_t ranks);

struct Learner {
  // `mesh`: of the ranks that train together, connected; outlives this. Null: one rank.
  Learner(const RunConfig& config, const ComputeDevice& device, const Mesh* mesh = nullptr);
  Learner(const Learner&) = delete;  // its parts refer to each other
  Learner& operator=(const Learner&) = delete;

  std::future<void> attention_plans;          // being made; first, so that it begins first
  FlatParameters parameters;                  // zeros until something gives them values
  std::optional<ParameterExchange> exchange;  // with other ranks
  HybridModel model;
  Optimizer optimizer;
  TrainStep step;
};

}  // namespace transxssm
