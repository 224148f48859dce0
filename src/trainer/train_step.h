// One optimizer step: micro-batches forward and backward, then the update. Start reading here.
#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

#include "data/batch.h"
#include "model/hybrid_model.h"
#include "optim/flat_parameters.h"
#include "optim/optimizer.h"

namespace transxssm {

class TrainStep {
 public:
  TrainStep(const HybridModel& model, FlatParameters& parameters, Optimizer& optimizer, double z_loss)
      : model_(model), parameters_(parameters), optimizer_(optimizer), z_loss_(z_loss) {}

  // Trains on `batch` with learning rate `lr`. Between micro-batches `abandon` is asked; when it says so, the
  // gradients are dropped, nothing has changed, and the result is false. Doesn't wait for the device.
  bool run(const GlobalBatch& batch, double lr, const std::function<bool()>& abandon);

  // f32 scalar on the device: mean loss over the counted labels of the last batch.
  const at::Tensor& loss() const { return loss_; }

 private:
  const HybridModel& model_;
  FlatParameters& parameters_;
  Optimizer& optimizer_;
  double z_loss_;
  at::Tensor loss_;
};

}  // namespace transxssm
