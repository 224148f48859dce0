#include "trainer/plan.h"

#include <algorithm>

#include "core/atomic_file.h"
#include "core/check.h"
#include "data/packing.h"
#include "model/accounting.h"
#include "model/hybrid_model.h"
#include "model/mixer.h"
#include "ops/attention_kernel.h"
#include "ops/ssd_kernel.h"
#include "optim/flat_parameters.h"
#include "trainer/learner.h"

namespace transxssm {
namespace {

// The workspace of matrix products (ops/gemm.cpp); on a CPU the program and its libraries.
constexpr uint64_t kGpuLibraries = uint64_t{64} << 20;
constexpr uint64_t kCpuLibraries = uint64_t{400} << 20;

// One rank shares nothing.
Sharding planned_sharding(const RunConfig& config, int64_t ranks) {
  return ranks > 1 ? sharding_of(config, 0, ranks) : Sharding{};
}

FlatBytes parameter_bytes(const RunConfig& config, const ComputeDevice& device, int64_t ranks) {
  return FlatParameters::bytes_needed(HybridModel::parameter_specs(config.model), device.dtype,
                                      ParameterUse::training, planned_sharding(config, ranks));
}

// Copies in the type of the sums: of all gradients at once, or of those in the ring.
uint64_t rounded_gradients(const RunConfig& config, const FlatBytes& flat) {
  if (config.parallel.reduce_dtype == ReduceDtype::fp32) return 0;
  return (flat.gradient_ring > 0 ? flat.gradient_ring : flat.gradients) / 2;
}

std::string sequences(int64_t count) { return concat("train.micro_batch_size ", count); }

// The largest number of sequences, at most the configured one, that may be chosen and fits.
std::optional<int64_t> largest_micro_batch(RunConfig config, const ComputeDevice& device, uint64_t available,
                                           int64_t ranks, MicroBatches choice) {
  for (int64_t count = config.train.micro_batch_size; count >= 1; --count) {
    if (choice == MicroBatches::dividing && config.train.global_batch_size % (ranks * count) != 0) continue;
    config.train.micro_batch_size = count;
    if (plan_memory(config, device, ranks).needed() <= available) return count;
  }
  return std::nullopt;
}

}  // namespace

ActivationShape activation_shape(const RunConfig& config, const ComputeDevice& device) {
  const auto ssd = ssd_dims(config.model.ssd, ssd_path(config.kernels));
  const auto attention = attention_dims(config.model.attention, attention_path(config.kernels));
  const bool gpu = device.device.is_cuda();
  return {config.train.micro_batch_size,
          config.train.seq_len,
          static_cast<int64_t>(c10::elementSize(device.dtype)),
          {.ssd = gpu && !ops::why_no_ssd_kernel(ssd, device.dtype, device.capability),
           .attention = gpu && !ops::why_no_attention_kernel(attention, device.dtype, device.capability),
           .cross_entropy = gpu && device.dtype == at::kBFloat16},
          document_capacity(config.train.micro_batch_size, config.train.seq_len, config.data.packing, 0),
          config.train.deterministic};
}

uint64_t MemoryPlan::peak() const {
  uint64_t bytes = 0;
  for (const MemoryPart& part : parts) bytes += part.bytes;
  return bytes;
}

std::string MemoryPlan::text() const {
  std::string text;
  for (const MemoryPart& part : parts)
    text += concat(text.empty() ? "" : ", ", part.name, " ", format_bytes(part.bytes));
  if (beside > 0) text += concat(", validation beside it ", format_bytes(beside));
  return text;
}

MemoryPlan plan_memory(const RunConfig& config, const ComputeDevice& device, int64_t ranks) {
  const FlatBytes flat = parameter_bytes(config, device, ranks);
  const ActivationShape shape = activation_shape(config, device);
  const auto activations = activation_memory(config.model, shape, config.train.recompute);
  const bool loss_is_worst = activations.loss > activations.backward;
  MemoryPlan plan;
  const auto add = [&](const char* name, auto bytes) {
    if (bytes > 0) plan.parts.push_back({name, static_cast<uint64_t>(bytes)});
  };
  add("weights", flat.weights);
  add("weights on their way", flat.weight_ring);
  add("gradients", flat.gradients);
  if (ranks > 1) add("gradients on their way", flat.gradient_ring + rounded_gradients(config, flat));
  add("Adam's moments", flat.moments);
  add("activations of SSD layers", activations.ssd_layers);
  add("activations of attention layers", activations.attention_layers);
  add("activations of the last norm", activations.last_norm);
  add(loss_is_worst ? "loss" : "backward pass of a block",
      loss_is_worst ? activations.loss : activations.backward);
  add("libraries", device.device.is_cuda() ? kGpuLibraries : kCpuLibraries);
  const bool validates = !config.data.validation.empty() || !config.data.tasks.empty();
  if (validates && device.device.is_cuda() && config.kernels.cuda_graphs)
    plan.beside = static_cast<uint64_t>(forward_memory(config.model, shape));
  return plan;
}

std::optional<std::string> advice_to_fit(const RunConfig& config, const ComputeDevice& device,
                                         uint64_t available, int64_t ranks, MicroBatches choice) {
  if (plan_memory(config, device, ranks).needed() <= available) return std::nullopt;
  const auto as_it_is = largest_micro_batch(config, device, available, ranks, choice);
  std::string advice;
  if (as_it_is) advice = "the largest that fits is " + sequences(*as_it_is);
  int64_t most = as_it_is.value_or(0);
  for (const auto& [recompute, name] : enum_names(Recompute{})) {  // from none to full
    if (recompute <= config.train.recompute) continue;
    RunConfig again = config;
    again.train.recompute = recompute;
    const int64_t count = largest_micro_batch(again, device, available, ranks, choice).value_or(0);
    if (count <= most) continue;
    most = count;
    advice +=
        concat(advice.empty() ? "what fits is " : "; ", sequences(count), " with train.recompute: ", name);
  }
  if (!advice.empty()) return advice;
  if (parameter_bytes(config, device, ranks).total() > available)
    return "parameters, gradients and optimizer moments alone do not fit: choose a smaller model "
           "(model.hidden_size, model.num_layers, model.intermediate_size)";
  return "not even one sequence fits: shorten train.seq_len or choose a smaller model (model.hidden_size, "
         "model.num_layers, model.intermediate_size)";
}

void expect_room(const RunConfig& config, const ComputeDevice& device, uint64_t available, int64_t ranks,
                 MicroBatches choice) {
  const FlatBytes flat = parameter_bytes(config, device, ranks);
  expect_input(flat.total() <= available,
               concat("out of memory: parameters, gradients and optimizer moments of this model take ",
                      format_bytes(flat.total()), " (weights ", format_bytes(flat.weights), ", gradients ",
                      format_bytes(flat.gradients), ", Adam's moments ", format_bytes(flat.moments),
                      "), and ", format_bytes(available), " are free on ", device.name,
                      ". Choose a smaller model (model.hidden_size, model.num_layers, "
                      "model.intermediate_size), another device, or end what else uses its memory"));
  const auto advice = advice_to_fit(config, device, available, ranks, choice);
  if (!advice) return;
  const MemoryPlan plan = plan_memory(config, device, ranks);
  throw InputError(concat("out of memory: with ", sequences(config.train.micro_batch_size), " a step needs ",
                          format_bytes(plan.needed()), " (", plan.text(), "), and ", format_bytes(available),
                          " are free on ", device.name, "; ", *advice));
}

namespace {

// The first of what rates are known for that is not so; empty where all is.
std::string why_no_time(const RunConfig& config, const ComputeDevice& device) {
  constexpr int64_t kWidth = 1024, kTokens = 16384;  // least that was measured
  const ModelConfig& m = config.model;
  const OperatorKernels kernels = activation_shape(config, device).kernels;
  const auto mixers = layer_mixers(m);
  const auto has = [&](MixerKind kind) { return std::count(mixers.begin(), mixers.end(), kind) > 0; };
  if (device.name.find("H100 80GB HBM3") == std::string::npos) return "an H100 SXM (--on h100)";
  if (device.dtype != at::kBFloat16) return "precision.compute: bf16";
  if (has(MixerKind::ssd) && !kernels.ssd) return "the scan's kernels (kernels.ssd)";
  if (has(MixerKind::attention) && !kernels.attention) return "cuDNN attention (kernels.attention)";
  if (!config.kernels.cuda_graphs) return "captured graphs (kernels.cuda_graphs)";
  if (has(MixerKind::ssd) && (m.ssd.conv_width > 0 || m.ssd.gate || m.ssd.bc_norm))
    return "SSD layers without convolution, gate and norms of B and C";
  if (has(MixerKind::attention) && m.attention.head_dim != 128) return "attention heads 128 wide";
  if (m.hidden_size < kWidth || config.train.micro_batch_size * config.train.seq_len < kTokens)
    return concat("models at least ", kWidth, " wide and micro-batches of at least ", kTokens, " tokens");
  return "";
}

}  // namespace

StepPlan plan_step(const RunConfig& config, const ComputeDevice& device, int64_t ranks) {
  const double tokens = static_cast<double>(config.train.global_batch_size * config.train.seq_len);
  const double keys = static_cast<double>(config.train.seq_len) / 2;
  StepPlan plan;
  plan.flops = tokens * train_flops_per_token(config.model, keys);
  plan.why_no_time = why_no_time(config, device);
  if (!plan.why_no_time.empty()) return plan;
  // Shares of peak arithmetic and of memory bandwidth that the parts reach in a step at the shapes of the
  // shipped configurations, and what is left idle (docs/benchmarks.md).
  constexpr double kProducts = 0.70, kAttention = 0.33, kBandwidth = 0.85, kIdle = 0.01;
  const ModelConfig& m = config.model;
  const double d = static_cast<double>(m.hidden_size), f = static_cast<double>(m.intermediate_size);
  const double inner = static_cast<double>(m.ssd.num_heads * m.ssd.head_dim);
  const double width = static_cast<double>(m.attention.num_heads * m.attention.head_dim);
  const double products = 6.0 * static_cast<double>(count_parameters(m).matmul);
  double attention = 0, values = 2 * static_cast<double>(m.vocab_size);  // values moved, a token
  for (const MixerKind mixer : layer_mixers(m)) {
    values += 16 * d + 9 * f;  // two norms with residual and SwiGLU, forward and backward
    if (config.train.recompute == Recompute::selective) values += 2 * d;
    if (mixer == MixerKind::attention)
      attention += 12 * width * keys;
    else
      values += 2 * 15 * inner;  // 13 are moved: the scan reaches about half of the bandwidth
  }
  const double passes = config.train.recompute == Recompute::full ? 4.0 / 3 : 1;
  const double per_token =
      passes * (products / (kProducts * device.peak_flops) + attention / (kAttention * device.peak_flops) +
                2 * values / (kBandwidth * device.memory_bandwidth));
  constexpr double kUpdateBytes = 34;  // gradient, moments, master and compute weights, a parameter
  const double update =
      kUpdateBytes * static_cast<double>(count_parameters(m).total) / (kBandwidth * device.memory_bandwidth);
  const auto n = static_cast<double>(ranks);
  plan.seconds =
      (tokens / n * per_token + (config.parallel.zero_stage >= 1 ? update / n : update)) / (1 - kIdle);
  return plan;
}

namespace {

// Of a micro-step at stage 3: blocks twice, but for the last ones, which lie in the ring when the backward
// pass begins; embedding and head once.
uint64_t gathered_elements(const RunConfig& config, const Sharding& sharding) {
  const auto layout = lay_out(HybridModel::parameter_specs(config.model), ParameterKind::matrix, sharding);
  const size_t blocks = sharding.blocks.size() - 1, kept = std::min<size_t>(kRingBlocks, blocks);
  const size_t first_kept = sharding.blocks[blocks - kept];
  int64_t elements = 0;
  for (const Bucket& bucket : layout.buckets) {
    const bool twice = bucket.slot > 0 && bucket.specs.front() < first_kept;
    elements += (twice ? 2 : 1) * bucket.size();
  }
  return static_cast<uint64_t>(elements);
}

}  // namespace

// A ring's traffic: a share of (ranks − 1) / ranks for a reduce-scatter as for an all-gather, and an
// all-reduce is both.
uint64_t sent_bytes(const RunConfig& config, const ComputeDevice& device, int64_t ranks) {
  const Sharding sharding = planned_sharding(config, ranks);
  const auto elements = static_cast<uint64_t>(count_parameters(config.model).total);
  const auto micro_steps =
      static_cast<uint64_t>(config.train.global_batch_size / (ranks * config.train.micro_batch_size));
  const uint64_t sums = elements * (config.parallel.reduce_dtype == ReduceDtype::bf16 ? 2 : 4);
  uint64_t weights = elements;  // sent as such
  if (sharding.shares_weights()) weights = micro_steps * gathered_elements(config, sharding);
  const uint64_t back = sharding.shares_state() ? weights * c10::elementSize(device.dtype) : sums;
  const uint64_t bytes = sums * (sharding.shares_gradients() ? micro_steps : 1) + back;
  return bytes * static_cast<uint64_t>(ranks - 1) / static_cast<uint64_t>(ranks);
}

uint64_t checkpoint_bytes(const RunConfig& config) {
  return 3 * sizeof(float) * static_cast<uint64_t>(count_parameters(config.model).total);
}

}  // namespace transxssm
