#include "trainer/train_step.h"

#include <algorithm>
#include <bit>

#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "core/logging.h"
#include "core/nvtx.h"

namespace transxssm {
namespace {

// Micro-batches that get a graph of their own, by shape and whether they come first in their step: one or two
// in a run, some more where the number of documents varies much (data/packing.h). A graph costs some tens of
// megabytes.
constexpr size_t kMostGraphs = 16;

}  // namespace

TrainStep::TrainStep(const HybridModel& model, FlatParameters& parameters, Optimizer& optimizer,
                     const TrainStepOptions& options)
    : model_(model),
      parameters_(parameters),
      optimizer_(optimizer),
      z_loss_(options.z_loss),
      loss_(at::zeros({}, at::TensorOptions().dtype(at::kFloat).device(model.device()))),
      per_label_(at::zeros_like(loss_)),
      graphs_(options.cuda_graphs && model.device().is_cuda() ? std::make_unique<GraphPool>() : nullptr),
      update_(graphs_.get()) {}

bool TrainStep::run(const GlobalBatch& batch, double lr, const std::function<bool()>& abandon) {
  // Sums over labels are scaled by the count of the whole global batch, known before the step, so neither the
  // number of micro-batches nor that of ranks changes the loss.
  per_label_.fill_(1.0 / static_cast<double>(std::max<int64_t>(batch.counted_labels, 1)));
  optimizer_.set_learning_rate(lr);
  loss_.zero_();
  for (const Batch& micro_batch : batch.micro_batches) {
    if (abandon()) return false;
    const bool first = &micro_batch == &batch.micro_batches.front();
    MicroStep& step = micro_step_for(micro_batch, first);
    step.in.fill(micro_batch);
    if (graphs_ && !step.captured) count_uncaptured();
    const NvtxRange range("micro-step");
    step.work.run([&] { forward_backward(step.in.contents(), first); });
  }
  const NvtxRange range("update");
  update_.run([&] { optimizer_.update(loss_); });  // clip, update unless something is not finite
  return true;
}

void TrainStep::forward_backward(const DeviceBatch& in, bool first) {
  if (first) parameters_.start_gradients();
  loss_.add_(model_.add_gradients(in.tokens_bt, in.labels_bt, in.documents, per_label_, z_loss_).loss);
  if (first) parameters_.complete_gradients();
}

TrainStep::MicroStep& TrainStep::micro_step_for(const Batch& batch, bool first) {
  const std::array<int64_t, 4> shape{batch.batch, batch.seq_len,
                                     static_cast<int64_t>(batch.document_offsets.size()) - 1, first};
  if (const auto found = micro_steps_.find(shape); found != micro_steps_.end()) return found->second;
  const bool captured = graphs_ && micro_steps_.size() < kMostGraphs;
  return micro_steps_
      .emplace(
          shape,
          MicroStep{captured, {batch, model_.device()}, RepeatedWork(captured ? graphs_.get() : nullptr)})
      .first->second;
}

// Says so ever more rarely.
void TrainStep::count_uncaptured() {
  if (std::has_single_bit(++uncaptured_))
    log_warning(concat("micro-batches so far without a CUDA graph: ", uncaptured_, "; ", kMostGraphs,
                       " others have one, each for another room for documents"));
}

}  // namespace transxssm
