#include "optim/optimizer.h"

#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include "core/check.h"
#include "ops/grad_norm.h"

namespace transxssm {
namespace {

constexpr double kNormFloor = 1e-6;  // keeps max_grad_norm / norm finite for a zero gradient

at::Tensor device_scalar(at::Device device, at::ScalarType dtype) {
  return at::zeros({}, at::TensorOptions(dtype).device(device));
}

}  // namespace

Optimizer::Optimizer(FlatParameters& parameters, const OptimizerConfig& config, ParameterExchange* exchange)
    : parameters_(parameters),
      exchange_(exchange),
      options_{config.betas.at(0), config.betas.at(1), config.eps, config.weight_decay},
      max_grad_norm_(config.max_grad_norm) {
  const at::Device device = parameters.device();
  control_.lr = device_scalar(device, at::kFloat);
  control_.step = device_scalar(device, at::kLong);
  control_.grad_scale = device_scalar(device, at::kFloat).fill_(1.0);
  control_.apply = device_scalar(device, at::kBool);
  grad_norm_ = device_scalar(device, at::kFloat);
  skipped_steps_ = device_scalar(device, at::kLong);
  skipped_in_row_ = device_scalar(device, at::kLong);
}

void Optimizer::set_learning_rate(double lr) { control_.lr.fill_(lr); }

void Optimizer::update(const at::Tensor& loss, const at::Tensor& votes) {
  const at::NoGradGuard no_grad;
  expect(loss.dim() == 0 && loss.device() == parameters_.device(),
         concat("optimizer: the loss must be a scalar on ", parameters_.device(), ", got ", loss.sizes(),
                " on ", loss.device()));
  grad_norm_.copy_(ops::grad_norm(parameters_.owned_grads()));
  if (exchange_) sum_over_ranks(loss, votes);
  if (max_grad_norm_ > 0)
    control_.grad_scale.copy_((max_grad_norm_ / (grad_norm_ + kNormFloor)).clamp_max(1.0));
  control_.apply.copy_(at::isfinite(grad_norm_).logical_and(at::isfinite(loss)));

  const at::Tensor skipped = control_.apply.logical_not();
  control_.step.add_(control_.apply);
  skipped_steps_.add_(skipped);
  skipped_in_row_.add_(1).mul_(skipped);

  ops::AdamWOptions undecayed = options_;
  undecayed.weight_decay = 0;
  for (const OwnedRange& r : parameters_.owned()) {
    ops::adamw(r.decayed ? options_ : undecayed, control_, r.master, r.m, r.v, r.grad, r.compute);
    if (exchange_) exchange_->weights_final(r);
  }
  if (exchange_) exchange_->finish_weights();
}

// One collective for all that ranks have to agree on. The square of an f32 norm doesn't overflow f64, and its
// root is the norm again.
void Optimizer::sum_over_ranks(const at::Tensor& loss, const at::Tensor& votes) {
  const at::Tensor numbers =
      at::stack({loss.to(at::kDouble), votes.to(at::kDouble), grad_norm_.to(at::kDouble).square()});
  exchange_->sum(numbers);
  at::Tensor(loss).copy_(numbers[0]);
  at::Tensor(votes).copy_(numbers[1]);
  if (parameters_.sharding().shares_state()) grad_norm_.copy_(numbers[2].sqrt());
}

void Optimizer::save_state(StateDict& out) const {
  out.values["optimizer"] = {{"adam_step", control_.step.item<int64_t>()},
                             {"skipped_steps", skipped_steps_.item<int64_t>()},
                             {"skipped_in_row", skipped_in_row_.item<int64_t>()}};
}

void Optimizer::load_state(const StateDict& in) {
  const auto read = [&](const char* key, const at::Tensor& scalar) {
    const auto section = in.values.find("optimizer");
    expect_input(section != in.values.end() && section->contains(key) && section->at(key).is_number_integer(),
                 concat("the saved state has no number optimizer.", key));
    return std::pair(scalar, section->at(key).get<int64_t>());
  };
  for (const auto& [scalar, value] : {read("adam_step", control_.step), read("skipped_steps", skipped_steps_),
                                      read("skipped_in_row", skipped_in_row_)})
    scalar.fill_(value);
}

}  // namespace transxssm
