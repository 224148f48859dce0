// One model in several precisions, for comparing its gradients.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "model/hybrid_model.h"
#include "optim/flat_parameters.h"

namespace transxssm::test {

struct GradientModel {
  GradientModel(const ModelConfig& config, at::Device device, at::ScalarType dtype,
                ModelOptions options = {256})
      : parameters(HybridModel::parameter_specs(config), device, dtype),
        model(config, parameters.table(), options) {}

  // What operators read here becomes what they read there.
  void copy_weights(const FlatParameters& from) const {
    const at::NoGradGuard no_grad;
    for (const auto& [name, parameter] : parameters.table().all())
      at::Tensor(parameter->weight).copy_(from.table().at(name)->weight);
  }

  // Per counted token, from zero.
  void differentiate(const at::Tensor& tokens, const at::Tensor& labels, const at::Tensor& offsets) {
    const at::Device device = model.device();
    const auto documents = ops::make_documents(offsets.to(device), tokens.size(0), tokens.size(1));
    const auto sums = parameters.vectors().grad.scalar_type();
    const at::Tensor scale =
        at::full({}, 1.0 / static_cast<double>(labels.numel()), at::TensorOptions(device).dtype(sums));
    parameters.start_gradients();
    model.add_gradients(tokens.to(device), labels.to(device), documents, scale);
    parameters.complete_gradients();
  }

  FlatParameters parameters;
  HybridModel model;
};

}  // namespace transxssm::test
