#include "trainer/evaluator.h"

#include <algorithm>
#include <numbers>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include "trainer/device_batch.h"

namespace transxssm {

std::optional<std::vector<ValidationResult>> evaluate(const HybridModel& model,
                                                      const std::vector<ValidationSet>& sets,
                                                      const std::function<bool()>& abandon) {
  const at::NoGradGuard no_grad;
  std::vector<ValidationResult> results;
  for (const ValidationSet& set : sets) {
    auto total = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(model.device()));
    for (int64_t i = 0; i < set.num_batches(); ++i) {
      if (abandon()) return std::nullopt;
      const DeviceBatch in = to_device(set.batch(i), model.device());
      total.add_(model.loss(in.tokens_bt, in.labels_bt, in.documents));
    }
    const double nats = total.item<double>();
    ValidationResult result{
        set.name(), nats / static_cast<double>(std::max<int64_t>(set.counted_labels(), 1)), {}};
    if (set.counted_bytes() > 0)
      result.bits_per_byte = nats / std::numbers::ln2 / static_cast<double>(set.counted_bytes());
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace transxssm
