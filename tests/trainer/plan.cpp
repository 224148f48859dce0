// A plan counts what would be allocated, and a run that cannot fit is refused with what would.
#include "trainer/plan.h"

#include "core/check.h"
#include "model/hybrid_model.h"
#include "optim/flat_parameters.h"
#include "support/catch.h"
#include "support/require_error.h"

using namespace transxssm;

namespace {

uint64_t bytes_of(const MemoryPlan& plan, const std::string& part) {
  for (const MemoryPart& p : plan.parts)
    if (p.name == part) return p.bytes;
  return 0;
}

// 1.3B: 64 sequences in micro-batches of 16.
RunConfig large() {
  RunConfig config;
  config.model.hidden_size = 2048;
  config.model.intermediate_size = 4096;
  config.model.attention.num_heads = config.model.attention.num_kv_heads = 16;
  config.model.ssd.num_heads = config.model.ssd.num_groups = 16;
  config.train.global_batch_size = 64;
  config.train.micro_batch_size = 16;
  return config;
}

const PlannedGpu kH100 = planned_gpu("h100", ComputeDtype::bf16);

}  // namespace

TEST_CASE("plan: weights, gradients and moments are what the flat parameters allocate") {
  const RunConfig config;
  const MemoryPlan plan = plan_memory(config, kH100.device);
  const auto specs = HybridModel::parameter_specs(config.model);
  REQUIRE(bytes_of(plan, "weights") + bytes_of(plan, "gradients") + bytes_of(plan, "Adam's moments") ==
          FlatParameters::bytes_needed(specs, at::kBFloat16).total());
  REQUIRE(checkpoint_bytes(config) == 12 * 369'460'672ull);
}

TEST_CASE("plan: advice is the largest micro-batch that divides the global batch and fits") {
  RunConfig config = large();
  REQUIRE(advice_to_fit(config, kH100.device, kH100.memory)
              .value_or("")
              .find("the largest that fits is train.micro_batch_size 8; train.micro_batch_size 16 with "
                    "train.recompute: full") == 0);
  config.train.micro_batch_size = 8;
  REQUIRE_FALSE(advice_to_fit(config, kH100.device, kH100.memory));
  const uint64_t exactly = plan_memory(config, kH100.device).peak();
  REQUIRE_FALSE(advice_to_fit(config, kH100.device, exactly));
  REQUIRE(advice_to_fit(config, kH100.device, exactly - 1));
}

TEST_CASE("plan: a batch that cannot fit is refused with bytes by part") {
  const auto refused = [](uint64_t available, const std::string& says) {
    require_error([&] { expect_room(large(), kH100.device, available); }, says);
  };
  for (const std::string part :
       {"out of memory: with train.micro_batch_size 16 a step needs", "gradients 5.25 GiB",
        "activations of SSD layers", "are free on NVIDIA H100", "the largest that fits is"})
    refused(kH100.memory, part);
  refused(uint64_t{25} << 30, "not even one sequence fits: shorten train.seq_len");
  refused(uint64_t{8} << 30, "parameters, gradients and optimizer moments of this model take");
  refused(uint64_t{8} << 30, "GiB (weights 7.88 GiB, gradients 5.25 GiB, Adam's moments 10.51 GiB)");
  REQUIRE(
      advice_to_fit(large(), kH100.device, uint64_t{8} << 30).value_or("").find("parameters, gradients") ==
      0);
  RunConfig fitting = large();
  fitting.train.micro_batch_size = 2;
  expect_room(fitting, kH100.device, kH100.memory);
}

TEST_CASE("plan: each operator counts the tensors of the path that it takes") {
  const auto kernels = [](const char* gpu, auto change, ComputeDtype compute = ComputeDtype::bf16) {
    RunConfig config;
    change(config);
    return activation_shape(config, planned_gpu(gpu, compute).device).kernels;
  };
  const auto same = [](RunConfig&) {};
  const OperatorKernels all = kernels("h100", same);
  REQUIRE((all.ssd && all.attention && all.cross_entropy));
  const OperatorKernels older = kernels("a100", same);
  REQUIRE((!older.ssd && !older.attention && older.cross_entropy));
  const OperatorKernels f32 = kernels("h100", same, ComputeDtype::fp32);
  REQUIRE((!f32.ssd && !f32.attention && !f32.cross_entropy));
  const OperatorKernels no_scan = kernels("h100", [](auto& c) { c.kernels.ssd = KernelChoice::reference; });
  REQUIRE((!no_scan.ssd && no_scan.attention));
  const OperatorKernels no_cudnn =
      kernels("h100", [](auto& c) { c.kernels.attention = KernelChoice::reference; });
  REQUIRE((no_cudnn.ssd && !no_cudnn.attention));
  const OperatorKernels narrow = kernels("h100", [](auto& c) { c.model.attention.head_dim = 96; });
  REQUIRE((narrow.ssd && !narrow.attention));
}

TEST_CASE("plan: cuDNN's workspace counts only where attention takes cuDNN") {
  // One row of 64 K tokens: the gradients of a head's scores alone would be 8 GiB.
  RunConfig config;
  config.train.seq_len = 65536;
  config.train.micro_batch_size = 1;
  const auto peak = [&](const char* gpu) {
    return plan_memory(config, planned_gpu(gpu, ComputeDtype::bf16).device).peak();
  };
  const uint64_t by_cudnn = peak("h100");
  config.kernels.attention = KernelChoice::reference;
  REQUIRE(peak("h100") + (uint64_t{7} << 30) < by_cudnn);
  REQUIRE_FALSE(advice_to_fit(config, kH100.device, by_cudnn - 1));
}

TEST_CASE("plan: a step alone may have any number of sequences, a run those that divide its batch") {
  RunConfig config = large();
  config.train.global_batch_size = config.train.micro_batch_size = 13;
  const auto advice = [&](MicroBatches choice) {
    return advice_to_fit(config, kH100.device, kH100.memory, 1, choice).value_or("");
  };
  const std::string largest = "the largest that fits is train.micro_batch_size ";
  REQUIRE(advice(MicroBatches::dividing).find(largest + "1; ") == 0);
  REQUIRE(advice(MicroBatches::any).find(largest + "8; ") == 0);
  require_error([&] { expect_room(config, kH100.device, kH100.memory, 1, MicroBatches::any); },
                largest + "8");
}

TEST_CASE("plan: validation takes memory beside captured steps, and what steps have freed elsewhere") {
  RunConfig config;
  const auto beside = [&] { return plan_memory(config, kH100.device).beside; };
  REQUIRE(beside() == 0);
  config.data.validation.resize(1);
  REQUIRE(beside() == (uint64_t{4 * 64 + 512} << 20));  // four tensors [8 · 4096, 1024] and a chunk of logits
  REQUIRE_FALSE(advice_to_fit(config, kH100.device, plan_memory(config, kH100.device).needed()));
  REQUIRE(advice_to_fit(config, kH100.device, plan_memory(config, kH100.device).needed() - 1));
  config.kernels.cuda_graphs = false;
  REQUIRE(beside() == 0);
}

// Measured on H100s, one document a window: docs/benchmarks.md.
TEST_CASE("plan: predicted speed is within 6 % of what was measured") {
  const auto near = [](RunConfig config, double thousands) {
    config.train.micro_batch_size = 32768 / config.train.seq_len * 1024 / config.model.hidden_size;
    const double tokens = static_cast<double>(config.train.global_batch_size * config.train.seq_len);
    const StepPlan step = plan_step(config, kH100.device);
    REQUIRE(step.seconds);
    REQUIRE(tokens / *step.seconds == Approx(thousands * 1e3).epsilon(0.06));
  };
  const auto transformer = [](RunConfig config) {
    config.model.layers.attention_period = 1;
    config.model.layers.attention_offset = 0;
    return config;
  };
  near({}, 197.9);
  near(large(), 60.5);
  near(transformer({}), 154.3);
  near(transformer(large()), 51.8);
  RunConfig longer;
  longer.train.seq_len = 16384;
  near(longer, 170.0);
  REQUIRE_FALSE(plan_step(RunConfig{}, ComputeDevice{}).seconds);
}
