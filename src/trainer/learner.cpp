#include "trainer/learner.h"

#include "data/packing.h"
#include "model/block.h"
#include "model/mixer.h"

namespace transxssm {

namespace {

// Beside the rest of the start-up. What goes wrong comes up again, with a message, in the first step.
std::future<void> begin_attention_plans(const RunConfig& config, const ComputeDevice& device) {
  if (!has_mixer(config.model, MixerKind::attention)) return {};
  const int64_t batch = config.train.micro_batch_size, tokens = config.train.seq_len;
  const ops::AttentionBatch batches{batch, tokens, document_capacity(batch, tokens, config.data.packing, 0),
                                    config.train.deterministic};
  return std::async(
      std::launch::async,
      [dims = attention_dims(config.model.attention, attention_path(config.kernels)), where = device.device,
       dtype = device.dtype, batches] { ops::prepare_attention(dims, where, dtype, batches); });
}

std::optional<ParameterExchange> make_exchange(const ParallelConfig& config, FlatParameters& parameters,
                                               const Mesh* mesh) {
  if (!mesh) return std::nullopt;
  return std::optional<ParameterExchange>(
      std::in_place, parameters, *mesh,
      config.reduce_dtype == ReduceDtype::bf16 ? at::kBFloat16 : parameters.grads()[0].scalar_type());
}

ModelOptions model_options(const RunConfig& config, std::optional<ParameterExchange>& exchange) {
  ModelOptions options{config.train.seq_len, config.train.deterministic, config.train.recompute,
                       ssd_path(config.kernels), attention_path(config.kernels)};
  if (exchange && exchange->shares_weights())
    options.weights_needed = [&exchange](size_t first_spec) { exchange->weights_needed(first_spec); };
  return options;
}

}  // namespace

Sharding sharding_of(const RunConfig& config, int64_t rank, int64_t ranks) {
  return {.rank = rank,
          .ranks = ranks,
          .stage = config.parallel.zero_stage,
          .blocks = HybridModel::first_specs(config.model)};
}

Learner::Learner(const RunConfig& config, const ComputeDevice& device, const Mesh* mesh)
    : attention_plans(begin_attention_plans(config, device)),
      parameters(HybridModel::parameter_specs(config.model, config.optimizer.decay_embeddings), device.device,
                 device.dtype, ParameterUse::training,
                 mesh ? sharding_of(config, mesh->rank(), mesh->size()) : Sharding{}),
      exchange(make_exchange(config.parallel, parameters, mesh)),
      model(config.model, parameters.table(), model_options(config, exchange)),
      optimizer(parameters, config.optimizer, exchange ? &*exchange : nullptr),
      step(model, parameters, optimizer, {config.train.z_loss, config.kernels.cuda_graphs},
           exchange ? &*exchange : nullptr) {}

}  // namespace transxssm
