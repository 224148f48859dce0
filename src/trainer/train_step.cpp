#include "trainer/train_step.h"

#include <algorithm>

#include <ATen/ops/mul.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>

#include "trainer/device_batch.h"

namespace transxssm {

bool TrainStep::run(const GlobalBatch& batch, double lr, const std::function<bool()>& abandon) {
  // Sums over labels are scaled by the count of the whole global batch, known before the step, so neither the
  // number of micro-batches nor that of ranks changes the loss.
  const double per_label = 1.0 / static_cast<double>(std::max<int64_t>(batch.counted_labels, 1));
  loss_ = at::zeros({}, at::TensorOptions().dtype(at::kFloat).device(model_.device()));
  for (const Batch& micro_batch : batch.micro_batches) {
    if (abandon()) {
      parameters_.zero_grad();
      return false;
    }
    const DeviceBatch in = to_device(micro_batch, model_.device());
    const auto result = model_.loss(in.tokens_bt, in.labels_bt, in.documents, z_loss_);
    torch::autograd::backward({result.objective.mul(per_label)}, {});  // operators add to the flat gradients
    loss_.add_(result.loss, per_label);
  }
  optimizer_.step(lr, loss_);  // clip, update unless something is not finite, zero the gradients
  return true;
}

}  // namespace transxssm
