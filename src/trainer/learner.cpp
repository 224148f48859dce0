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

}  // namespace

Learner::Learner(const RunConfig& config, const ComputeDevice& device)
    : attention_plans(begin_attention_plans(config, device)),
      parameters(HybridModel::parameter_specs(config.model, config.optimizer.decay_embeddings), device.device,
                 device.dtype),
      model(config.model, parameters.table(),
            {config.train.seq_len, config.train.deterministic, config.train.recompute,
             ssd_path(config.kernels), attention_path(config.kernels)}),
      optimizer(parameters, config.optimizer),
      step(model, parameters, optimizer, {config.train.z_loss, config.kernels.cuda_graphs}) {}

}  // namespace transxssm
