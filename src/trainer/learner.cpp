#include "trainer/learner.h"

namespace transxssm {

Learner::Learner(const RunConfig& config, const ComputeDevice& device)
    : parameters(HybridModel::parameter_specs(config.model, config.optimizer.decay_embeddings), device.device,
                 device.dtype),
      model(config.model, parameters.table(),
            {config.train.seq_len, config.train.deterministic, config.train.recompute,
             ssd_path(config.kernels), attention_path(config.kernels)}),
      optimizer(parameters, config.optimizer),
      step(model, parameters, optimizer, {config.train.z_loss, config.kernels.cuda_graphs}) {}

}  // namespace transxssm
