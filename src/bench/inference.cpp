#include "bench/inference.h"

#include <ATen/ops/tensor.h>

#include "core/rng.h"
#include "generate/decoder.h"
#include "model/accounting.h"
#include "optim/init.h"
#include "trainer/profiler.h"

namespace transxssm::bench {
namespace {

constexpr int kProfiled = 5;

std::vector<int64_t> random_prompt(int64_t vocab_size, int64_t tokens, uint64_t seed) {
  const Philox random(seed);
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < tokens; ++i)
    ids.push_back(
        static_cast<int64_t>(random.uniform(static_cast<uint64_t>(i)) * static_cast<double>(vocab_size)));
  return ids;
}

std::vector<DecodeRequest> random_prompts(const ModelConfig& config, const InferenceShape& shape) {
  std::vector<DecodeRequest> rows;
  for (int64_t b = 0; b < shape.batch; ++b)
    rows.push_back({random_prompt(config.vocab_size, shape.context, static_cast<uint64_t>(b + 1)), 1});
  return rows;
}

double prefill_flops(const ModelConfig& config, const InferenceShape& shape) {
  const double head = 2.0 * static_cast<double>(config.vocab_size * config.hidden_size);
  const double token = train_flops_per_token(config, 0.5 * static_cast<double>(shape.context)) / 3 - head;
  return static_cast<double>(shape.batch) * (static_cast<double>(shape.context) * token + head);
}

double decode_bytes(const InferenceModel& model, const InferenceShape& shape, double keys) {
  const ModelConfig& c = model.config.model;
  const auto batch = static_cast<double>(shape.batch);
  const auto width = static_cast<double>(c10::elementSize(model.device.dtype));
  double bytes = width * static_cast<double>(count_parameters(c).matmul);
  for (const MixerKind mixer : layer_mixers(c)) {
    if (mixer == MixerKind::attention)
      bytes +=
          batch * keys * width * 2 * static_cast<double>(c.attention.num_kv_heads * c.attention.head_dim);
    else  // f32, read and written
      bytes += batch * 2 * 4 * static_cast<double>(c.ssd.num_heads * c.ssd.head_dim * c.ssd.state_dim);
  }
  return bytes;
}

std::optional<StepTime> profile(at::Device device, const std::function<void()>& run) {
  if (!device.is_cuda()) return std::nullopt;
  Profiler profiler(device);
  for (int i = 0; i < kProfiled; ++i) run();
  return step_time(profiler.stop().device_activities(), kProfiled);
}

}  // namespace

InferenceModel untrained_model(const RunConfig& config, Device device) {
  InferenceModel out;
  out.config = config;
  out.device = choose_device(device, config.precision.compute, "--device");
  out.parameters =
      std::make_unique<FlatParameters>(HybridModel::parameter_specs(config.model), out.device.device,
                                       out.device.dtype, ParameterUse::inference);
  initialize(*out.parameters, config.train.seed);
  return out;
}

InferenceTiming time_prefill(InferenceModel& model, const InferenceShape& shape) {
  const at::Device device = model.device.device;
  model.bind(shape.context);
  DecodeState state = model.model->start_decoding(shape.batch, shape.context);
  std::vector<int64_t> ids;
  for (const DecodeRequest& row : random_prompts(model.config.model, shape))
    ids.insert(ids.end(), row.prompt.begin(), row.prompt.end());
  const at::Tensor tokens = at::tensor(ids, at::kLong).view({shape.batch, shape.context}).to(device);
  const Prompts prompts =
      make_prompts(tokens, std::vector<int64_t>(static_cast<size_t>(shape.batch), shape.context));
  const auto run = [&] { model.model->prefill(prompts, state); };
  for (int i = 0; i < 2; ++i) run();
  wait_for(device);
  InferenceTiming timing;
  timing.time = spread_of(queued_times(device, shape.repeats, [&](int) { run(); }));
  timing.flops = prefill_flops(model.config.model, shape);
  timing.memory_peak = memory_peak(model.device);
  timing.by_part = profile(device, run);
  return timing;
}

InferenceTiming time_decode(InferenceModel& model, const InferenceShape& shape) {
  const at::Device device = model.device.device;
  constexpr int kWarmUp = 4;  // the first as it is, the second recorded
  const int64_t steps = kWarmUp + shape.repeats + kProfiled + 1;
  model.bind(shape.context + steps);
  Decoder decoder(*model.model, {.batch = shape.batch,
                                 .capacity = shape.context + steps,
                                 .max_new_tokens = steps,
                                 .vocab_size = model.config.model.vocab_size,
                                 .sampling = {.temperature = 0}});
  decoder.start(random_prompts(model.config.model, shape));
  for (int i = 0; i < kWarmUp; ++i) decoder.step();
  wait_for(device);
  InferenceTiming timing;
  timing.time = spread_of(queued_times(device, shape.repeats, [&](int) { decoder.step(); }));
  timing.bytes =
      decode_bytes(model, shape, static_cast<double>(shape.context) + kWarmUp + 0.5 * shape.repeats);
  timing.memory_peak = memory_peak(model.device);
  timing.by_part = profile(device, [&] { decoder.step(); });
  return timing;
}

}  // namespace transxssm::bench
