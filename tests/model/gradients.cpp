// Gradients of whole models of every architecture on the CPU.
#include "gradient_model.h"
#include "support/compare.h"
#include "support/gradcheck.h"
#include "support/tiny_model.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

struct Case {
  std::string architecture;
  at::Tensor offsets;
};

// One document a row, and some across 2 rows of 29.
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const auto& architecture : architectures()) {
    all.push_back({architecture, at::tensor({0, 29, 58}, at::kInt)});
    all.push_back({architecture, at::tensor({0, 1, 17, 29, 46, 58}, at::kInt)});
  }
  return all;
}

}  // namespace

TEST_CASE("gradients of whole models: the slope of the loss along any direction, in fp64") {
  const at::Tensor tokens = random_tokens(2, 29, 1), labels = random_tokens(2, 29, 2);
  for (const auto& [architecture, offsets] : cases()) {
    CAPTURE(architecture, offsets.numel());
    const TinyModel drawn(tiny_config(architecture));
    GradientModel exact(tiny_config(architecture), at::kCPU, at::kDouble);
    exact.copy_weights(drawn.parameters);
    exact.differentiate(tokens, labels, offsets);
    const auto documents = ops::make_documents(offsets, 2, 29);
    const auto loss = [&] { return exact.model.loss(tokens, labels, documents).item<double>() / 58; };
    uint64_t seed = 3;
    for (const auto& [name, parameter] : exact.parameters.table().all()) {
      CAPTURE(name);
      const at::NoGradGuard no_grad;
      constexpr double kStep = 3e-6;
      const at::Tensor direction = f64_tensor(parameter->weight.sizes(), ++seed);
      at::Tensor weight = parameter->weight;
      const at::Tensor before = weight.clone();
      const auto loss_at = [&](double step) {
        weight.copy_(before + step * direction);
        const double value = loss();
        weight.copy_(before);
        return value;
      };
      const double slope = (loss_at(kStep) - loss_at(-kStep)) / (2 * kStep);
      const double expected = (parameter->grad * direction).sum().item<double>();
      // Third derivatives times the step squared; rounding of the loss over the step.
      REQUIRE(std::abs(slope - expected) <= 1e-6 * parameter->grad.norm().item<double>() + 1e-9);
    }
  }
}

TEST_CASE("gradients of whole models: f32 differs from fp64 by rounding alone") {
  const at::Tensor tokens = random_tokens(2, 29, 1), labels = random_tokens(2, 29, 2);
  for (const auto& [architecture, offsets] : cases()) {
    CAPTURE(architecture, offsets.numel());
    const TinyModel drawn(tiny_config(architecture));
    GradientModel rounded(tiny_config(architecture), at::kCPU, at::kFloat),
        exact(tiny_config(architecture), at::kCPU, at::kDouble);
    rounded.copy_weights(drawn.parameters);
    exact.copy_weights(drawn.parameters);
    rounded.differentiate(tokens, labels, offsets);
    exact.differentiate(tokens, labels, offsets);
    for (const auto& [name, parameter] : rounded.parameters.table().all()) {
      CAPTURE(name);
      REQUIRE(rms_error(parameter->grad, exact.parameters.table().at(name)->grad) < 1e-4);
    }
  }
}
