// One optimizer step over the flat parameters: norm, clip and AdamW, all on the device.
#pragma once

#include <ATen/core/Tensor.h>

#include "config/optim_config.h"
#include "core/state.h"
#include "ops/adamw.h"
#include "optim/flat_parameters.h"
#include "optim/parameter_exchange.h"

namespace transxssm {

class Optimizer final : public Stateful {
 public:
  // Uses betas, eps, weight_decay and max_grad_norm of the config. `exchange`: with the ranks that train
  // together, or null. It and `parameters` outlive the optimizer.
  Optimizer(FlatParameters& parameters, const OptimizerConfig& config, ParameterExchange* exchange = nullptr);

  // Of the updates that follow. Written to the device, where update() reads it: a captured graph holds
  // update() and sees the current rate.
  void set_learning_rate(double lr);

  // Consumes the gradients, which FlatParameters::start_gradients drops. `loss` is a scalar on the
  // parameters' device. Where ranks train together, the gradients owned here are sums over them by now, and
  // `loss` and `votes`, another f32 scalar, become such sums. The gradient is scaled by min(1, max_grad_norm
  // / (norm + 1e-6)), or by 1 when max_grad_norm is 0; when norm or loss isn't finite nothing changes but the
  // skip counters. Without a host sync.
  void update(const at::Tensor& loss, const at::Tensor& votes = {});

  // Scalars on the device, overwritten by each step: copy them in stream order.
  const at::Tensor& grad_norm() const { return grad_norm_; }  // f32, of the last step, before clipping
  const at::Tensor& skipped_steps() const { return skipped_steps_; }    // i64, since the start of the run
  const at::Tensor& skipped_in_row() const { return skipped_in_row_; }  // i64, up to the last step

  // values["optimizer"]: Adam's step and the skip counters. The moments belong to FlatParameters.
  void save_state(StateDict& out) const override;
  void load_state(const StateDict& in) override;

 private:
  void sum_over_ranks(const at::Tensor& loss, const at::Tensor& votes);

  FlatParameters& parameters_;
  ParameterExchange* exchange_;
  ops::AdamWOptions options_;
  double max_grad_norm_;
  ops::AdamWControl control_;  // control_.step is Adam's step: the number of updates applied
  at::Tensor grad_norm_;
  at::Tensor skipped_steps_;
  at::Tensor skipped_in_row_;
};

}  // namespace transxssm
