// One rank on a GPU through NCCL: steps with sums over the ranks give the bits of those without.
#include <ATen/ATen.h>

#include "data/loader.h"
#include "optim/init.h"
#include "parallel/local_store.h"
#include "support/run_result.h"
#include "support/tiny_run.h"
#include "trainer/learner.h"

namespace transxssm::test {
namespace {

constexpr int kSteps = 6;

// What the kernels take, and several buckets of gradients.
RunConfig wide_config(const TinyRun& tiny) {
  RunConfig config = tiny.config();
  config.model.hidden_size = 1024;
  config.model.intermediate_size = 2048;
  config.model.num_layers = 8;
  config.model.attention.num_heads = config.model.attention.num_kv_heads = 8;
  config.model.ssd.num_heads = config.model.ssd.num_groups = 8;
  config.model.attention.head_dim = config.model.ssd.head_dim = config.model.ssd.state_dim = 128;
  return config;
}

StateDict trained(const RunConfig& config, const ComputeDevice& device, const Mesh* mesh) {
  Learner learner(config, device, mesh);
  if (mesh) REQUIRE(learner.parameters.matrices().buckets.size() > 2);
  initialize(learner.parameters, 5);
  Loader loader(config.data, {config.train.seq_len, config.train.global_batch_size,
                              config.train.micro_batch_size, config.model.vocab_size});
  std::vector<at::Tensor> reports;
  for (int step = 0; step < kSteps; ++step) {
    learner.step.run(loader.next(), 1e-3 * (step + 1), [] { return false; });
    reports.push_back(at::stack({learner.step.loss(), learner.optimizer.grad_norm()}));
  }
  StateDict state;
  learner.parameters.save_state(state);
  for (auto& [name, tensor] : state.tensors) tensor = tensor.to(at::kCPU, /*non_blocking=*/false, true);
  state.tensors["reports"] = at::stack(reports).cpu();
  return state;
}

TEST_CASE("ranks: one rank's steps have the bits of a step without ranks", "[cuda]") {
  const TinyRun tiny;
  const LocalStore store;
  Mesh mesh = Mesh::join(store.environment(0, 1), std::chrono::seconds(60));
  const ComputeDevice device = choose_device(Device::cuda, ComputeDtype::bf16);
  mesh.connect(device.device);
  RunConfig config = wide_config(tiny);
  config.train.micro_batch_size = GENERATE(2, 4);  // two micro-steps, or one that is first and last
  config.train.recompute = GENERATE(Recompute::none, Recompute::full);
  config.kernels.cuda_graphs = false;
  const StateDict alone = trained(config, device, nullptr);
  for (const bool graphs : {false, true}) {
    for (const int64_t stage : {0, 1, 2, 3}) {
      CAPTURE(graphs, stage);
      config.kernels.cuda_graphs = graphs;
      config.parallel.zero_stage = stage;
      const StateDict ranks = trained(config, device, &mesh);
      // From stage 2 on gradients of micro-steps are added up after products and not by them.
      const bool equal = stage < 2 || config.train.micro_batch_size == 4;
      for (const auto& [name, tensor] : alone.tensors) {
        CAPTURE(name);
        if (equal)
          REQUIRE(at::equal(ranks.tensors.at(name), tensor));
        else if (name == "reports")
          REQUIRE(at::allclose(ranks.tensors.at(name)[0], tensor[0], 1e-5));
      }
    }
  }
  config.parallel.reduce_dtype = ReduceDtype::bf16;
  const StateDict rounded = trained(config, device, &mesh);
  // Of the first step: later ones start from other weights.
  const at::Tensor expected = alone.tensors.at("reports")[0], actual = rounded.tensors.at("reports")[0];
  CHECK(actual[0].item<float>() == expected[0].item<float>());
  CHECK(actual[1].item<float>() == Approx(expected[1].item<float>()).epsilon(0x1p-8));
}

}  // namespace
}  // namespace transxssm::test
