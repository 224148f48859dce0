// Captured steps: the same bits as plain ones, on the paths of kernels and references alike.
#include <cstdint>

#include <c10/core/CachingDeviceAllocator.h>

#include "data/packing.h"
#include "optim/init.h"
#include "support/run_result.h"
#include "support/tiny_run.h"
#include "trainer/launch.h"
#include "trainer/learner.h"

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

// Windows cut into documents of `length` tokens.
GlobalBatch batch_of(const RunConfig& config, int64_t length) {
  std::vector<Window> windows(static_cast<size_t>(config.train.micro_batch_size));
  for (Window& window : windows) {
    for (int64_t t = 0; t <= config.train.seq_len; ++t)
      window.tokens.push_back(static_cast<int32_t>(t % config.model.vocab_size));
    for (int64_t start = length; start < config.train.seq_len; start += length)
      window.document_starts.push_back(start);
  }
  GlobalBatch batch;
  batch.micro_batches.push_back(pack(windows, Packing::isolated));
  batch.counted_labels = batch.micro_batches.front().counted_labels;
  return batch;
}

// What LibTorch's allocator takes from the device at once for blocks of up to 1 MiB.
constexpr int64_t kSmallSegment = 2 << 20;

// What the allocator has taken from the device, and how often it has asked.
struct Held {
  int64_t bytes, requests;
};
Held held() {
  const auto stats = at::getDeviceAllocator(at::kCUDA)->getDeviceStats(0);
  return {stats.reserved_bytes[0].current, stats.num_device_alloc};
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

// A batch with more documents than there was room for is another graph, beside which the memory of the first
// would lie idle if they did not share it, and so would that of the plain run before each. It needs more for
// itself: cuDNN's workspace.
TEST_CASE("CUDA graphs: no allocation once a step is recorded, and little for another room for documents",
          "[cuda]") {
  const TinyRun tiny;
  auto config = tiny.config("run", "transxssm");
  widen(config.model);
  config.train.seq_len = 4096;
  config.train.micro_batch_size = config.train.global_batch_size = 4;
  const ComputeDevice device = choose_device(Device::cuda, ComputeDtype::bf16);
  Learner learner(config, device);
  initialize(learner.parameters, 1);
  const auto step = [&](const GlobalBatch& batch) {
    REQUIRE(learner.step.run(batch, 1e-3, [] { return false; }));
    wait_for(device.device);
  };
  const GlobalBatch usual = batch_of(config, 1024), many = batch_of(config, 100);
  REQUIRE(usual.micro_batches[0].document_offsets.size() < many.micro_batches[0].document_offsets.size());
  at::getDeviceAllocator(at::kCUDA)->emptyCache();  // what tests before left would serve the first step
  const Held before = held();
  step(usual);
  const Held first = held();
  step(usual);  // recorded, with LibTorch's few numbers for a graph
  const Held recorded = held();
  CAPTURE(before.bytes, first.bytes, recorded.bytes);
  REQUIRE(recorded.bytes - first.bytes <= kSmallSegment);
  for (int i = 0; i < 3; ++i) step(usual);
  REQUIRE(held().requests == recorded.requests);
  for (int i = 0; i < 4; ++i) step(many);
  CAPTURE(held().bytes);
  REQUIRE(held().bytes - first.bytes < (first.bytes - before.bytes) / 2);
  for (int i = 0; i < 4; ++i) step(usual);
  REQUIRE(held().bytes - first.bytes < (first.bytes - before.bytes) / 2);
}
