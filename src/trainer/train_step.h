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
#include "optim/parameter_exchange.h"
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
            const TrainStepOptions& options, ParameterExchange* exchange = nullptr);

  // Trains on `batch` with learning rate `lr`. Between micro-batches `abandon` is asked; when it says so,
  // nothing has changed and the result is false. Ranks that train together can't leave a step: there the
  // answer is a vote. Doesn't wait for the device.
  bool run(const GlobalBatch& batch, double lr, const std::function<bool()>& abandon);

  // f32 scalar on the device: mean loss over the counted labels of the last batch. Overwritten by the next
  // step: copy it in stream order.
  const at::Tensor& loss() const { return loss_; }
  // Likewise: how many ranks voted to abandon the last step.
  const at::Tensor& votes() const { return votes_; }

 private:
  // Micro-batches of one shape and turn.
  struct MicroStep {
    bool captured;  // or to be
    BatchBuffers in;
    RepeatedWork work;
  };
  MicroStep& micro_step_for(const Batch& batch, Turn turn);  // `last` only where there is an exchange
  void count_uncaptured();
  void forward_backward(const DeviceBatch& in, Turn turn);

  const HybridModel& model_;
  FlatParameters& parameters_;
  Optimizer& optimizer_;
  ParameterExchange* exchange_;  // null: one rank
  double z_loss_;
  at::Tensor loss_;
  at::Tensor votes_;
  at::Tensor per_label_;               // f32 scalar on the device: 1 / counted labels of the global batch
  std::unique_ptr<GraphPool> graphs_;  // null: every operation is queued anew
  std::map<std::array<int64_t, 5>, MicroStep> micro_steps_;  // by B, T, capacity of documents, turn
  RepeatedWork update_;
  uint64_t uncaptured_ = 0;  // micro-batches that ran without a graph though graphs are on
};

}  // namespace transxssm
