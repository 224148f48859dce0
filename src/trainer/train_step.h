// One optimizer step: micro-batches forward and backward, then the update. Start reading here.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>

#include <ATen/core/Tensor.h>

#include "data/batch.h"
#include "model/hybrid_model.h"
#include "optim/flat_parameters.h"
#include "optim/optimizer.h"
#include "trainer/device_batch.h"
#include "trainer/repeated_work.h"

namespace transxssm {

struct TrainStepOptions {
  double z_loss = 0;
  bool cuda_graphs = true;  // on a GPU: replay micro-steps and update from captured graphs
};

class TrainStep {
 public:
  TrainStep(const HybridModel& model, FlatParameters& parameters, Optimizer& optimizer,
            const TrainStepOptions& options);

  // Trains on `batch` with learning rate `lr`. Between micro-batches `abandon` is asked; when it says so,
  // nothing has changed and the result is false. Doesn't wait for the device.
  bool run(const GlobalBatch& batch, double lr, const std::function<bool()>& abandon);

  // f32 scalar on the device: mean loss over the counted labels of the last batch. Overwritten by the next
  // step: copy it in stream order.
  const at::Tensor& loss() const { return loss_; }

 private:
  // Micro-batches of one shape, first in their step or later.
  struct MicroStep {
    bool captured;  // or to be
    BatchBuffers in;
    RepeatedWork work;
  };
  MicroStep& micro_step_for(const Batch& batch, bool first);
  void count_uncaptured();
  void forward_backward(const DeviceBatch& in, bool first);

  const HybridModel& model_;
  FlatParameters& parameters_;
  Optimizer& optimizer_;
  double z_loss_;
  at::Tensor loss_;
  at::Tensor per_label_;               // f32 scalar on the device: 1 / counted labels of the global batch
  std::unique_ptr<GraphPool> graphs_;  // null: every operation is queued anew
  std::map<std::array<int64_t, 4>, MicroStep> micro_steps_;  // by B, T, capacity of documents, first
  RepeatedWork update_;
  uint64_t uncaptured_ = 0;  // micro-batches that ran without a graph though graphs are on
};

}  // namespace transxssm
