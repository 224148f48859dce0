#include "trainer/evaluator.h"

#include <algorithm>
#include <numbers>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include "trainer/device_batch.h"

namespace transxssm {

std::optional<std::vector<ValidationResult>> evaluate(const HybridModel& model,
                                                      const std::vector<ValidationSet>& sets,
                                                      const Mesh& mesh,
                                                      const std::function<bool()>& abandon) {
  const at::NoGradGuard no_grad;
  std::vector<ValidationResult> results;
  for (const ValidationSet& set : sets) {
    // In f64 sums of some thousand f32 losses are exact as a rule: their order doesn't show.
    auto total = at::zeros({1}, at::TensorOptions().dtype(at::kDouble).device(model.device()));
    for (int64_t round = 0; round < set.num_batches(); round += mesh.size()) {
      if (abandon()) return std::nullopt;
      const int64_t i = round + mesh.rank();
      if (i >= set.num_batches()) {
        model.skip_pass();
        continue;
      }
      const DeviceBatch in = to_device(set.batch(i), model.device());
      total.add_(model.loss(in.tokens_bt, in.labels_bt, in.documents));
    }
    mesh.all_reduce(total);
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
