// What a run reports: the rows of metrics.jsonl and, under the same names, TensorBoard's scalars.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "eval/scoring.h"
#include "trainer/tensorboard.h"

namespace transxssm {

// Of several ranks. Seconds are means over the steps since the last row.
struct RankMetrics {
  double communication_seconds = 0;          // of the first rank: collectives ran
  double exposed_communication_seconds = 0;  // other work waited for them, slower ranks included
  double exposed_communication_total = 0;    // since the launch
  double rank_step_seconds_min = 0;          // of the quickest rank, without waiting for others
  double rank_step_seconds_max = 0;          // of the slowest
  int64_t slowest_rank = 0;
  int64_t fullest_rank = 0;  // whose memory memory_peak_gib is
};

// One row {"kind": "train", ...}; the fields' names are the keys. What is unknown (no value) or not finite
// becomes null in metrics.jsonl and has no point in TensorBoard.
struct TrainMetrics {
  int64_t step = 0;
  int64_t consumed_tokens = 0;
  double loss = 0;
  double lr = 0;
  double grad_norm = 0;
  double step_time_seconds = 0;
  double elapsed_seconds = 0;    // over resumes
  double tokens_per_second = 0;  // all ranks
  double tokens_per_second_per_gpu = 0;
  double tflops_per_gpu = 0;
  std::optional<double> mfu;              // 0 to 1; unknown where the device's peak is
  std::optional<double> memory_peak_gib;  // of the rank that needs most
  double data_wait_seconds = 0;
  int64_t skipped_steps = 0;
  std::optional<RankMetrics> ranks;  // its fields follow in the same row
};

// One row {"kind": "validation", ...}.
struct ValidationMetrics {
  int64_t step = 0;
  std::string set;
  double loss = 0;
  std::optional<double> bits_per_byte;  // unknown without a tokenizer
};

// One row {"kind": "task", "step", "set", and each measure with its standard error}.
struct TaskMetrics {
  int64_t step = 0;
  std::string set;
  std::vector<Metric> metrics;
};

nlohmann::ordered_json to_json(const TrainMetrics& row);
nlohmann::ordered_json to_json(const ValidationMetrics& row);
nlohmann::ordered_json to_json(const TaskMetrics& row);

// The last steps that a checkpoint has rows of.
struct MetricsEnd {
  int64_t step = -1;  // training
  int64_t validated =
      -1;  // validation and tasks: earlier than `step` where a run stopped before it could validate
};

// Drops the rows of a metrics file beyond `end`, and lines that a killed process left torn. The file is
// replaced atomically, and left alone when there is nothing to drop. A missing file is fine.
void drop_metrics_after(const std::filesystem::path& file, const MetricsEnd& end);

// Appends rows; each is one write(2), so a killed process loses none it reported.
class MetricsWriter {
 public:
  // `end` is where the run starts: that of the checkpoint, or none for a fresh start. Rows beyond it are
  // dropped from the file, and superseded in TensorBoard. An empty `tensorboard` folder name writes no event
  // files.
  MetricsWriter(const std::filesystem::path& file, const std::filesystem::path& tensorboard,
                const MetricsEnd& end);

  void write(const TrainMetrics& row);
  void write(const ValidationMetrics& row);
  void write(const TaskMetrics& row);

 private:
  void write(const nlohmann::ordered_json& row, const std::string& tag_prefix);

  OutputFile file_;
  std::unique_ptr<TensorBoardWriter> tensorboard_;
};

}  // namespace transxssm
