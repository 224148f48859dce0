// A training run: owns the parts and decides when to train, validate, report, save and stop. What one step
// does is in trainer/train_step.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpointer.h"
#include "checkpoint/reader.h"
#include "config/run_config.h"
#include "data/loader.h"
#include "data/validation_set.h"
#include "optim/lr_schedule.h"
#include "parallel/mesh.h"
#include "parallel/patience.h"
#include "trainer/device.h"
#include "trainer/learner.h"
#include "trainer/metrics.h"
#include "trainer/pace.h"
#include "trainer/run_folder.h"
#include "trainer/step_report.h"
#include "trainer/step_tracer.h"
#include "trainer/stop.h"
#include "trainer/task_set.h"

namespace transxssm {

// What training needs of the run's tokenizer; empty without one.
struct TokenizerFacts {
  std::string hash;                      // checkpoints carry it: a resumed run has the same
  std::vector<int32_t> bytes_per_token;  // UTF-8 bytes behind each id, none behind control tokens
};

// Ranks that train together run one each and take every decision together.
class Trainer {
 public:
  // Opens the data first (its errors come before anything large is allocated), then makes model and
  // optimizer. `mesh` is connected and outlives this object, like `folder`, which the first rank has.
  Trainer(const RunConfig& config, const ComputeDevice& device, const Mesh& mesh, const RunFolder* folder,
          Checkpointer checkpointer, TokenizerFacts tokenizer);
  Trainer(const Trainer&) = delete;  // its parts refer to each other
  Trainer& operator=(const Trainer&) = delete;

  // Exactly one of these comes before run().
  void start_fresh();
  void start_from_weights(const std::filesystem::path& step_or_exported);
  void resume(const CheckpointReader& checkpoint);

  // Trains until max_steps (nothing is returned) or until there is a reason to stop early (it is returned).
  // Everything is saved by then.
  std::optional<std::string> run();

  int64_t step() const { return step_; }

 private:
  using Clock = std::chrono::steady_clock;

  // A step that was queued on the device, with what the host knows about it.
  struct QueuedStep {
    int64_t step;
    int64_t consumed_tokens;
    double lr;
    PendingReport report;
  };

  std::optional<std::string> own_stop_reason() const { return stop_watch_.reason(save_seconds_); }
  // The same on every rank: one rank's reason, where any has one, asked now or as steps have voted.
  std::optional<std::string> agreed_stop_reason();
  std::optional<std::string> stop_reason();
  void open_metrics();
  double flops_of(const GlobalBatch& batch) const;  // by the documents that are really in it
  GlobalBatch next_batch();
  void train_one_step();
  void read_reports(size_t leave_queued);
  void log_step(const QueuedStep& queued, const StepReport& report);
  // Since the mesh was connected. Waits for the device.
  struct Communicated {
    double running = 0, exposed = 0;  // seconds
  };
  Communicated communicated() const;
  void leave_out_communication_since(const Communicated& before);  // of steps
  // On the first rank of several; the others tell it theirs.
  std::optional<RankMetrics> rank_metrics(const StepReport& report, const Pace::Rates& pace);
  void validate();
  std::optional<std::vector<TaskMetrics>> answer_tasks();  // none when stopped
  void save();
  StateDict state() const;       // of this rank
  nlohmann::json facts() const;  // of the run, for a checkpoint's manifest
  void tell_step();              // in status.json
  void write_gemms();

  RunConfig config_;
  ComputeDevice device_;
  const Mesh& mesh_;
  const RunFolder* folder_;  // null but on the first rank
  Checkpointer checkpointer_;
  TokenizerFacts tokenizer_;
  StopWatch stop_watch_;
  Loader loader_;
  std::vector<ValidationSet> validation_sets_;
  std::vector<TaskSet> task_sets_;
  Learner learner_;
  LrSchedule schedule_;
  std::optional<MetricsWriter> metrics_;  // from start on, on the first rank

  int64_t step_ = 0;            // steps done
  int64_t validated_step_ = 0;  // step of the last validation
  int64_t saved_step_ = -1;     // step of the last save in this folder
  double flops_per_token_ = 0;  // without attention to keys
  double flops_per_key_ = 0;    // per token, and key that it attends to
  double elapsed_before_ = 0;   // seconds of earlier launches
  double save_seconds_ = 0;     // the longest save so far
  double last_loss_ = 0;
  Clock::time_point launched_ = Clock::now();
  Clock::time_point told_ = launched_;
  size_t gemms_written_ = 0;  // products in gemm.json
  bool stop_voted_ = false;
  std::optional<Patience> patience_;  // until the first step of this launch is done
  Communicated counted_;              // what the rows so far are about, or what is in none
  double exposed_total_ = 0;          // of the rows so far
  uint64_t fullest_memory_ = 0;
  std::optional<std::string> stop_reason_;  // agreed

  StepTracer tracer_;
  std::deque<QueuedStep> queued_;
  Pace pace_;
};

}  // namespace transxssm
