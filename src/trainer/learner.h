// What learns: parameters, the network over them, the optimizer, and one step of it. Training and
// `bench step` make the same from a configuration.
#pragma once

#include <future>

#include "config/run_config.h"
#include "model/hybrid_model.h"
#include "optim/flat_parameters.h"
#include "optim/optimizer.h"
#include "trainer/device.h"
#include "trainer/train_step.h"

namespace transxssm {

struct Learner {
  Learner(const RunConfig& config, const ComputeDevice& device);
  Learner(const Learner&) = delete;  // its parts refer to each other
  Learner& operator=(const Learner&) = delete;

  std::future<void> attention_plans;  // being made; first, so that it begins first
  FlatParameters parameters;          // zeros until something gives them values
  HybridModel model;
  Optimizer optimizer;
  TrainStep step;
};

}  // namespace transxssm
