// Captured steps: the same bits as plain ones, on the paths of kernels and references alike.
#include "support/run_result.h"
#include "support/tiny_run.h"
#include "trainer/launch.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

// Trains `config` on the GPU in a run folder of its own.
StateDict trained(const TinyRun& tiny, RunConfig config, const std::string& name, bool cuda_graphs) {
  config.train.run_dir = (tiny.folder / name).string();
  config.train.device = Device::cuda;
  config.kernels.cuda_graphs = cuda_graphs;
  REQUIRE(launch_training(config, {}) == 0);
  return final_state(config.train.run_dir);
}

// What the kernels take: widths of 128, eight heads.
void widen(ModelConfig& model) {
  model.hidden_size = 256;
  model.intermediate_size = 256;
  model.attention.head_dim = model.ssd.head_dim = model.ssd.state_dim = 128;
  if (model.ssd.num_groups > 1) model.ssd.num_groups = 8;
  model.ssd.num_heads = 8;
}

}  // namespace

// The learning rate changes every step, and so must what a graph reads of it; micro-batches accumulate;
// validation uses the GPU between replays.
TEST_CASE("CUDA graphs: captured steps train to the same bits as plain ones", "[cuda]") {
  const TinyRun tiny;
  const std::string architecture =
      GENERATE("transxssm", "transformer", "mamba2", "hybrid-plain", "everything");
  const bool wide = GENERATE(false, true);
  const Recompute recompute = GENERATE(Recompute::none, Recompute::selective, Recompute::full);
  CAPTURE(architecture, wide);
  auto config = tiny.config("run", architecture);
  config.train.recompute = recompute;
  if (wide && architecture != "everything") widen(config.model);
  const StateDict plain = trained(tiny, config, "plain", false);
  const StateDict captured = trained(tiny, config, "captured", true);
  require_equal_bits(plain, captured);
  REQUIRE(metric_rows((tiny.folder / "plain").string()) == metric_rows((tiny.folder / "captured").string()));
}

TEST_CASE("CUDA graphs: a resumed run goes on with the same bits", "[cuda]") {
  const TinyRun tiny;
  auto config = tiny.config("run", "transxssm");
  widen(config.model);
  const StateDict whole = trained(tiny, config, "whole", true);
  config.checkpoint.every = 5;
  trained(tiny, config, "parts", true);
  for (const auto& entry : list_checkpoints(tiny.folder / "parts"))
    if (entry.step > 5) std::filesystem::remove_all(entry.folder);
  require_equal_bits(whole, trained(tiny, config, "parts", true));
}
