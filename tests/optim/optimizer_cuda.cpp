// Whole optimizer steps on CUDA against the CPU, with the bf16 compute copy.
#include <cmath>

#include <ATen/ops/full.h>

#include "optim/init.h"
#include "optim/optimizer.h"
#include "optim/sample_specs.h"
#include "support/catch.h"
#include "support/compare.h"

using namespace transxssm;

namespace {

struct Trained {
  explicit Trained(at::Device device)
      : parameters(sample_specs(), device, at::kBFloat16), optimizer(parameters, {}) {
    initialize(parameters, 1);
  }
  // The gradient is the weight plus a constant, so that it follows from the state alone.
  void step(double loss) {
    for (const auto& spec : sample_specs()) {
      const Parameter& p = *parameters.table().at(spec.name);
      for (const LogicalTensor& part : spec.parts) {
        const auto rows = [&](const at::Tensor& x) {
          return x.detach().narrow(0, part.row_begin, part.shape[0]);
        };
        rows(p.grad).copy_(rows(p.weight).to(at::kFloat) + 0.5);
      }
    }
    optimizer.set_learning_rate(1e-2);
    optimizer.update(at::full({}, loss, at::TensorOptions(at::kFloat).device(parameters.device())));
  }
  FlatParameters parameters;
  Optimizer optimizer;
};

}  // namespace

TEST_CASE("optimizer on CUDA: initial values have the bits of the CPU's", "[optim][cuda]") {
  const Trained cpu(at::kCPU), gpu(at::kCUDA);
  REQUIRE(same_bits(cpu.parameters.matrices().master, gpu.parameters.matrices().master));
  REQUIRE(same_bits(cpu.parameters.matrices().compute, gpu.parameters.matrices().compute));
  REQUIRE(same_bits(cpu.parameters.vectors().master, gpu.parameters.vectors().master));
}

TEST_CASE("optimizer on CUDA: steps equal the CPU's, skipped ones included, and repeat bit for bit",
          "[optim][cuda]") {
  Trained cpu(at::kCPU), gpu(at::kCUDA), again(at::kCUDA);
  for (const double loss : {1.0, 1.0, std::nan(""), 1.0, HUGE_VAL}) {
    cpu.step(loss);
    gpu.step(loss);
    again.step(loss);
  }
  // Three updates of at most 1e-2 each; a compute weight that rounds to the neighbouring bf16 changes a
  // gradient by 2^-9 of itself, and that the update by less.
  REQUIRE(max_abs_diff(cpu.parameters.matrices().master, gpu.parameters.matrices().master) < 3e-2 * 0x1p-9);
  REQUIRE(max_abs_diff(cpu.parameters.vectors().master, gpu.parameters.vectors().master) < 3e-2 * 0x1p-9);
  REQUIRE(same_bits(gpu.parameters.matrices().master, again.parameters.matrices().master));
  REQUIRE(same_bits(gpu.parameters.matrices().compute, gpu.parameters.matrices().master.to(at::kBFloat16)));
  REQUIRE(gpu.optimizer.skipped_steps().item<int64_t>() == 2);
  REQUIRE(gpu.optimizer.skipped_in_row().item<int64_t>() == 1);
  REQUIRE_NOTHROW(gpu.parameters.check_views());
}

TEST_CASE("optimizer on CUDA: padding rows stay zero", "[optim][cuda]") {
  Trained gpu(at::kCUDA);
  for (int i = 0; i < 3; ++i) gpu.step(1.0);
  const at::Tensor& packed = gpu.parameters.table().at("mixer.in")->weight;
  REQUIRE(max_abs(packed.narrow(0, 3, 1)) == 0);
  REQUIRE(max_abs(packed.narrow(0, 12, 4)) == 0);
}

TEST_CASE("optimizer on CUDA: a state saved there loads on the CPU with the same bits", "[optim][cuda]") {
  Trained gpu(at::kCUDA), cpu(at::kCPU);
  gpu.step(1.0);
  StateDict state;
  gpu.parameters.save_state(state);
  gpu.optimizer.save_state(state);
  cpu.parameters.load_state(state);
  cpu.optimizer.load_state(state);
  REQUIRE(same_bits(cpu.parameters.matrices().v, gpu.parameters.matrices().v));
  REQUIRE(same_bits(cpu.parameters.matrices().compute, gpu.parameters.matrices().compute));
}
