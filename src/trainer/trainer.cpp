#include "trainer/trainer.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>

#include "checkpoint/locate.h"
#include "config/load.h"
#include "core/check.h"
#include "core/counted.h"
#include "core/logging.h"
#include "core/version.h"
#include "model/accounting.h"
#include "ops/gemm.h"
#include "optim/init.h"
#include "parallel/agreement.h"
#include "trainer/device_batch.h"
#include "trainer/evaluator.h"
#include "trainer/inference.h"
#include "trainer/progress.h"
#include "trainer/rank_figures.h"

namespace transxssm {
namespace {

// Ids are checked against the tokenizer where there is one: a padded vocabulary has more.
LoaderShape loader_shape(const RunConfig& c, const TokenizerFacts& tokenizer, const Mesh& mesh) {
  const auto known_ids = static_cast<int64_t>(tokenizer.bytes_per_token.size());
  return {c.train.seq_len,
          c.train.global_batch_size,
          c.train.micro_batch_size,
          known_ids > 0 ? known_ids : c.model.vocab_size,
          mesh.rank(),
          mesh.size()};
}

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

// Between two writes of status.json that only tell the step; a write waits for the disk.
constexpr double kTellEverySeconds = 10;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Trainer::Trainer(const RunConfig& config, const ComputeDevice& device, const Mesh& mesh,
                 const RunFolder* folder, Checkpointer checkpointer, TokenizerFacts tokenizer)
    : config_(config),
      device_(device),
      mesh_(mesh),
      folder_(folder),
      checkpointer_(std::move(checkpointer)),
      tokenizer_(std::move(tokenizer)),
      stop_watch_(config.train.max_minutes),
      loader_(config.data, loader_shape(config, tokenizer_, mesh)),
      validation_sets_(make_validation_sets(config.data, loader_shape(config, tokenizer_, mesh),
                                            config.validation.sequences, tokenizer_.bytes_per_token)),
      task_sets_(load_task_sets(config.data, config.train.seq_len)),
      learner_(config, device, mesh.size() > 1 ? &mesh : nullptr),
      schedule_(make_lr_schedule(config.optimizer, config.schedule, config.train.max_steps)),
      flops_per_token_(train_flops_per_token(config.model, 0)),
      flops_per_key_(train_flops_per_token(config.model, 1) - flops_per_token_),
      patience_(std::in_place, mesh, std::chrono::seconds(config.parallel.timeout_seconds)),
      tracer_(folder ? config.trace : TraceConfig{}, folder ? folder->traces() : "", device.device) {}

void Trainer::start_fresh() {
  initialize(learner_.parameters, config_.train.seed);
  open_metrics();
}

void Trainer::start_from_weights(const std::filesystem::path& step_or_exported) {
  load_weights(step_or_exported, config_.model, learner_.parameters);
  open_metrics();
}

void Trainer::resume(const CheckpointReader& checkpoint) {
  StateDict state;
  agreed(mesh_, [&] {
    state = checkpoint.load([&](const std::string& name) { return learner_.parameters.own_part(name); });
    learner_.parameters.load_state(state);
    learner_.optimizer.load_state(state);
  });
  if (learner_.exchange) learner_.exchange->share_state();
  const auto& progress = state.values.at("trainer");
  step_ = progress.at("step");
  validated_step_ = progress.at("validated_step");
  elapsed_before_ = progress.at("elapsed_seconds");
  last_loss_ = progress.at("loss").is_null() ? std::nan("") : progress.at("loss").get<double>();
  loader_.load_state(state.values.at("loader"));
  if (device_.device.is_cuda())
    ops::use_gemm_record(checkpoint.manifest().run.value("gemm", nlohmann::json::object()));
  // Going back to an older checkpoint of this run saves it again, as the newest.
  const auto is_newest = [&] {
    const auto own = list_checkpoints(folder_->path());
    return !own.empty() && std::filesystem::equivalent(own.back().folder, checkpoint.folder());
  };
  if (on_first(mesh_, [&] { return is_newest() ? "newest" : ""; }) == "newest") saved_step_ = step_;
  open_metrics();
}

void Trainer::open_metrics() {
  if (!folder_) return;
  const auto tensorboard = config_.logging.tensorboard ? folder_->tensorboard() : std::filesystem::path();
  metrics_.emplace(folder_->metrics(), tensorboard,
                   step_ > 0 ? MetricsEnd{step_, validated_step_} : MetricsEnd{});
}

std::optional<std::string> Trainer::agreed_stop_reason() {
  if (mesh_.size() == 1) return own_stop_reason();
  for (const std::string& reason : mesh_.exchange(own_stop_reason().value_or("")))
    if (!reason.empty() && !stop_reason_) stop_reason_ = reason;
  return stop_reason_;
}

std::optional<std::string> Trainer::stop_reason() {
  if (mesh_.size() == 1 || stop_voted_) return agreed_stop_reason();
  return stop_reason_;
}

std::optional<std::string> Trainer::run() {
  const auto due = [&](int64_t every) { return step_ > 0 && step_ % every == 0; };
  pace_.start();
  leave_out_communication_since({});
  for (;;) {
    const bool at_end = step_ >= config_.train.max_steps;
    if ((due(config_.validation.every) || at_end) && validated_step_ != step_) {
      const Communicated before = communicated();
      validate();
      leave_out_communication_since(before);
    }
    if ((due(config_.checkpoint.every) || at_end) && saved_step_ != step_) save();
    if (at_end && validated_step_ == step_) return std::nullopt;
    if (const auto reason = stop_reason()) {
      if (saved_step_ != step_) save();
      return reason;
    }
    if (!at_end) train_one_step();
  }
}

double Trainer::flops_of(const GlobalBatch& batch) const {
  double flops = 0;
  for (const Batch& b : batch.micro_batches)
    flops += (flops_per_token_ + flops_per_key_ * mean_keys(b)) * static_cast<double>(b.batch * b.seq_len);
  return flops;
}

// Data that cannot be read ends the run, but not what was learnt before it. One rank alone can't save what
// several share.
GlobalBatch Trainer::next_batch() {
  try {
    return loader_.next();
  } catch (const InputError&) {
    if (mesh_.size() == 1 && step_ > 0 && saved_step_ != step_) save();
    throw;
  }
}

void Trainer::train_one_step() {
  const GlobalBatch batch = next_batch();
  const double lr = learning_rate(schedule_, step_);
  const auto traced = tracer_.begin(step_ + 1);
  if (!learner_.step.run(batch, lr, [&] { return own_stop_reason().has_value(); })) {
    loader_.put_back();
    return;
  }
  ++step_;
  pace_.add(config_.train.global_batch_size * config_.train.seq_len, flops_of(batch));
  queued_.push_back(
      {step_, loader_.consumed_tokens(), lr,
       PendingReport(learner_.step.loss(), learner_.optimizer.grad_norm(), learner_.optimizer.skipped_steps(),
                     learner_.optimizer.skipped_in_row(), learner_.step.votes(), mesh_.collective_times())});
  // A step late on a GPU, so that it never waits for the host; on a CPU the step is done by now.
  read_reports(/*leave_queued=*/device_.device.is_cuda() ? 1 : 0);
}

void Trainer::read_reports(size_t leave_queued) {
  while (queued_.size() > leave_queued) {
    QueuedStep queued = std::move(queued_.front());
    queued_.pop_front();
    const StepReport report = queued.report.wait();
    patience_.reset();
    last_loss_ = report.loss;
    stop_voted_ = stop_voted_ || report.votes > 0;
    write_gemms();
    if (report.skipped_in_row > config_.train.max_skipped_in_row)
      throw std::runtime_error(
          concat("step ", queued.step, ": loss ", report.loss, ", gradient norm ", report.grad_norm, "; ",
                 counted(report.skipped_in_row, "step"),
                 " in a row with a loss or norm that is not finite, skipped (train.max_skipped_in_row is ",
                 config_.train.max_skipped_in_row,
                 "). Lower optimizer.lr or look at the data of these steps; the newest "
                 "checkpoint is untouched"));
    const bool last = queued.step == config_.train.max_steps;
    if (queued.step % config_.logging.every == 0 || last) log_step(queued, report);
  }
}

void Trainer::log_step(const QueuedStep& queued, const StepReport& report) {
  const Pace::Rates pace = pace_.take();
  const auto ranks = rank_metrics(report, pace);
  if (!folder_) return;
  TrainMetrics row;
  row.ranks = ranks;
  row.step = queued.step;
  row.consumed_tokens = queued.consumed_tokens;
  row.loss = report.loss;
  row.lr = queued.lr;
  row.grad_norm = report.grad_norm;
  row.step_time_seconds = pace.seconds_per_step;
  row.elapsed_seconds = elapsed_before_ + seconds_since(launched_);
  row.tokens_per_second = pace.tokens_per_second;
  row.tokens_per_second_per_gpu = row.tokens_per_second / mesh_.size();
  row.tflops_per_gpu = pace.flops_per_second * 1e-12;
  if (device_.peak_flops > 0) row.mfu = pace.flops_per_second / device_.peak_flops;
  row.memory_peak_gib = static_cast<double>(fullest_memory_) / kGib;
  row.data_wait_seconds = loader_.seconds_waited();
  row.skipped_steps = report.skipped_steps;
  metrics_->write(row);
  log_info(progress_line(row, config_.train.max_steps));
  if (seconds_since(told_) > kTellEverySeconds) tell_step();
}

std::optional<RankMetrics> Trainer::rank_metrics(const StepReport& report, const Pace::Rates& pace) {
  fullest_memory_ = memory_peak(device_);
  if (mesh_.size() == 1) return std::nullopt;
  const auto steps = static_cast<double>(std::max<int64_t>(pace.steps, 1));
  RankMetrics row;
  row.communication_seconds = (report.communication_seconds - counted_.running) / steps;
  row.exposed_communication_seconds = (report.exposed_seconds - counted_.exposed) / steps;
  exposed_total_ += report.exposed_seconds - counted_.exposed;
  row.exposed_communication_total = exposed_total_;
  counted_ = {report.communication_seconds, report.exposed_seconds};
  const double own = std::max(0.0, pace.seconds_per_step - row.exposed_communication_seconds);
  std::vector<RankFigures> ranks;
  for (const std::string& text : mesh_.gather(RankFigures{own, fullest_memory_}.text()))
    ranks.push_back(RankFigures::from(text));
  if (ranks.empty()) return std::nullopt;
  const RankSpread spread = spread_of_ranks(ranks);
  row.rank_step_seconds_min = spread.least_seconds;
  row.rank_step_seconds_max = spread.most_seconds;
  row.slowest_rank = spread.slowest;
  row.fullest_rank = spread.fullest;
  fullest_memory_ = spread.memory_peak;
  return row;
}

Trainer::Communicated Trainer::communicated() const {
  const at::Tensor times = mesh_.collective_times();
  if (!times.defined()) return {};
  const at::Tensor host = times.cpu();
  const auto seconds = [&](int64_t i) { return static_cast<double>(host[i].item<int64_t>()) * 1e-9; };
  return {seconds(0), seconds(1)};
}

void Trainer::leave_out_communication_since(const Communicated& before) {
  const Communicated now = communicated();
  counted_.running += now.running - before.running;
  counted_.exposed += now.exposed - before.exposed;
}

void Trainer::validate() {
  read_reports(0);
  const Pace::Pause pause(pace_);
  const auto results =
      evaluate(learner_.model, validation_sets_, mesh_, [&] { return agreed_stop_reason().has_value(); });
  if (!results) return;
  const auto tasks = answer_tasks();
  if (!tasks) return;
  write_gemms();
  validated_step_ = step_;
  if (!folder_) return;
  for (const ValidationResult& result : *results) {
    metrics_->write(ValidationMetrics{step_, result.set, result.loss, result.bits_per_byte});
    std::string line = concat("step ", step_, " | validation ", result.set, " | loss ", result.loss);
    if (result.bits_per_byte) line += concat(" | bits per byte ", *result.bits_per_byte);
    log_info(line);
  }
  for (const TaskMetrics& task : *tasks) {
    metrics_->write(task);
    std::string line = concat("step ", step_, " | task ", task.set);
    for (const Metric& metric : task.metrics) line += concat(" | ", metric.name, " ", metric.value);
    log_info(line);
  }
}

std::optional<std::vector<TaskMetrics>> Trainer::answer_tasks() {
  const int64_t batch_tokens = config_.train.micro_batch_size * config_.train.seq_len;
  std::vector<TaskMetrics> out;
  for (const TaskSet& set : task_sets_) {
    auto result = evaluate_task(learner_.model, set, batch_tokens, mesh_,
                                [&](size_t) { return !agreed_stop_reason(); });
    if (!result) return std::nullopt;
    out.push_back({step_, set.name, std::move(result->metrics)});
  }
  return out;
}

void Trainer::write_gemms() {
  if (!folder_ || ops::gemms_used() == gemms_written_) return;
  gemms_written_ = ops::gemms_used();
  folder_->write_gemms(ops::gemm_record());
}

void Trainer::tell_step() {
  folder_->set_status({RunState::running, step_, "", std::nullopt});
  told_ = Clock::now();
}

void Trainer::save() {
  read_reports(0);
  const Pace::Pause pause(pace_);
  const Patience patience(mesh_, std::chrono::seconds(config_.parallel.timeout_seconds));
  const auto started = Clock::now();
  if (folder_) folder_->expect_held();
  const auto path = checkpointer_.save(step_, state(), facts());
  saved_step_ = step_;
  const double seconds = seconds_since(started);
  save_seconds_ = std::max(save_seconds_, seconds);
  if (!folder_) return;
  tell_step();
  log_info(concat("saved ", path.string(), " in ", format_duration(seconds)));
}

StateDict Trainer::state() const {
  StateDict state;
  learner_.parameters.save_state(state);
  learner_.optimizer.save_state(state);
  state.values["loader"] = loader_.save_state();
  state.values["trainer"] = {{"step", step_},
                             {"validated_step", validated_step_},
                             {"elapsed_seconds", elapsed_before_ + seconds_since(launched_)},
                             {"loss", last_loss_}};
  return state;
}

nlohmann::json Trainer::facts() const {
  return {{"config", to_json(config_)}, {"tokenizer", tokenizer_.hash},
          {"commit", kCommit},          {"libtorch", kTorchVersion},
          {"device", device_.name},     {"ranks", mesh_.size()},
          {"loss", last_loss_},         {"parameters", learner_.parameters.parameter_count()},
          {"gemm", ops::gemm_record()}};
}

}  // namespace transxssm
