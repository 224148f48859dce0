#include "trainer/train_step.h"

#include <algorithm>
#include <bit>

#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "core/logging.h"
#include "core/nvtx.h"

namespace transxssm {
namespace {

// Micro-batches that get a graph of their own, by shape and turn: one to three in a run, some more where the
// number of documents varies much (data/packing.h). A graph costs some tens of megabytes.
constexpr size_t kMostGraphs = 16;

}  // namespace

TrainStep::TrainStep(const HybridModel& model, FlatParameters& parameters, Optimizer& optimizer,
                     const TrainStepOptions& options, ParameterExchange* exchange)
    : model_(model),
      parameters_(parameters),
      optimizer_(optimizer),
      exchange_(exchange),
      z_loss_(options.z_loss),
      loss_(at::zeros({}, at::TensorOptions().dtype(at::kFloat).device(model.device()))),
      votes_(at::zeros_like(loss_)),
      per_label_(at::zeros_like(loss_)),
      graphs_(options.cuda_graphs && model.device().is_cuda() ? std::make_unique<GraphPool>() : nullptr),
      update_(graphs_.get()) {}

bool TrainStep::run(const GlobalBatch& batch, double lr, const std::function<bool()>& abandon) {
  // Sums over labels are scaled by the count of the whole global batch, known before the step, so neither the
  // number of micro-batches nor that of ranks changes the loss.
  per_label_.fill_(1.0 / static_cast<double>(std::max<int64_t>(batch.counted_labels, 1)));
  optimizer_.set_learning_rate(lr);
  loss_.zero_();
  if (exchange_) votes_.fill_(abandon() ? 1.0 : 0.0);
  for (const Batch& micro_batch : batch.micro_batches) {
    if (!exchange_ && abandon()) return false;
    const Turn turn{&micro_batch == &batch.micro_batches.front(),
                    exchange_ && &micro_batch == &batch.micro_batches.back()};
    MicroStep& step = micro_step_for(micro_batch, turn);
    step.in.fill(micro_batch);
    if (graphs_ && !step.captured) count_uncaptured();
    const NvtxRange range("micro-step");
    step.work.run([&] { forward_backward(step.in.contents(), turn); });
  }
  const NvtxRange range("update");
  update_.run([&] { optimizer_.update(loss_, votes_); });  // clip, update unless something is not finite
  return true;
}

void TrainStep::forward_backward(const DeviceBatch& in, Turn turn) {
  GradientsFinal gradients_final;
  const bool exchanges = exchange_ && exchange_->takes_part_in(turn);
  if (turn.first) parameters_.start_gradients();
  if (exchanges) {
    exchange_->start_gradients(turn);
    gradients_final = [this](size_t first_spec) { exchange_->gradients_final(first_spec); };
  }
  loss_.add_(
      model_.add_gradients(in.tokens_bt, in.labels_bt, in.documents, per_label_, z_loss_, gradients_final)
          .loss);
  if (turn.first) parameters_.complete_gradients();
  if (exchanges) exchange_->finish_gradients();
}

TrainStep::MicroStep& TrainStep::micro_step_for(const Batch& batch, Turn turn) {
  const std::array<int64_t, 5> shape{batch.batch, batch.seq_len,
                                     static_cast<int64_t>(batch.document_offsets.size()) - 1, turn.first,
                                     turn.last};
  if (const auto found = micro_steps_.find(shape); found != micro_steps_.end()) return found->second;
  const bool captured = graphs_ && micro_steps_.size() < kMostGraphs;
  const auto runs = captured ? RepeatedWork::Runs::recorded : RepeatedWork::Runs::plain;
  return micro_steps_
      .emplace(shape, MicroStep{captured, {batch, model_.device()}, RepeatedWork(graphs_.get(), runs)})
      .first->second;
}

// Says so ever more rarely.
void TrainStep::count_uncaptured() {
  if (std::has_single_bit(++uncaptured_))
    log_warning(concat("micro-batches so far without a CUDA graph: ", uncaptured_, "; ", kMostGraphs,
                       " others have one, each for another room for documents"));
}

}  // namespace transxssm
