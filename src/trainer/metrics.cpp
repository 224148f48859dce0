#include "trainer/metrics.h"

#include <cmath>
#include <sstream>

#include "core/check.h"
#include "core/logging.h"

namespace transxssm {
namespace fs = std::filesystem;
using nlohmann::ordered_json;
namespace {

ordered_json number(double value) { return std::isfinite(value) ? ordered_json(value) : ordered_json(); }
ordered_json number(const std::optional<double>& value) { return value ? number(*value) : ordered_json(); }

// Whether a row is of a step within `end`; nothing when the line is no row.
std::optional<bool> is_within(const std::string& line, const MetricsEnd& end) {
  const auto row = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!row.is_object() || !row.contains("step") || !row["step"].is_number_integer()) return std::nullopt;
  const bool is_validation = row.contains("kind") && (row["kind"] == "validation" || row["kind"] == "task");
  return row["step"].get<int64_t>() <= (is_validation ? end.validated : end.step);
}

fs::path cut(const fs::path& file, const MetricsEnd& end) {
  drop_metrics_after(file, end);
  return file;
}

}  // namespace

ordered_json to_json(const TrainMetrics& row) {
  ordered_json out{{"kind", "train"},
                   {"step", row.step},
                   {"consumed_tokens", row.consumed_tokens},
                   {"loss", number(row.loss)},
                   {"lr", number(row.lr)},
                   {"grad_norm", number(row.grad_norm)},
                   {"step_time_seconds", number(row.step_time_seconds)},
                   {"elapsed_seconds", number(row.elapsed_seconds)},
                   {"tokens_per_second", number(row.tokens_per_second)},
                   {"tokens_per_second_per_gpu", number(row.tokens_per_second_per_gpu)},
                   {"tflops_per_gpu", number(row.tflops_per_gpu)},
                   {"mfu", number(row.mfu)},
                   {"memory_peak_gib", number(row.memory_peak_gib)},
                   {"data_wait_seconds", number(row.data_wait_seconds)},
                   {"skipped_steps", row.skipped_steps}};
  if (!row.ranks) return out;
  out["communication_seconds"] = number(row.ranks->communication_seconds);
  out["exposed_communication_seconds"] = number(row.ranks->exposed_communication_seconds);
  out["exposed_communication_total"] = number(row.ranks->exposed_communication_total);
  out["rank_step_seconds_min"] = number(row.ranks->rank_step_seconds_min);
  out["rank_step_seconds_max"] = number(row.ranks->rank_step_seconds_max);
  out["slowest_rank"] = row.ranks->slowest_rank;
  out["fullest_rank"] = row.ranks->fullest_rank;
  return out;
}

ordered_json to_json(const ValidationMetrics& row) {
  return {{"kind", "validation"},
          {"step", row.step},
          {"set", row.set},
          {"loss", number(row.loss)},
          {"bits_per_byte", number(row.bits_per_byte)}};
}

ordered_json to_json(const TaskMetrics& row) {
  ordered_json out{{"kind", "task"}, {"step", row.step}, {"set", row.set}};
  for (const Metric& metric : row.metrics) {
    out[metric.name] = number(metric.value);
    out[metric.name + "_stderr"] = number(metric.stderr_of_value);
  }
  return out;
}

void drop_metrics_after(const fs::path& file, const MetricsEnd& end) {
  if (!fs::exists(file)) return;
  const std::string content = read_file(file);
  std::string kept;
  int64_t damaged = 0;
  for (size_t begin = 0; begin < content.size();) {
    const size_t newline = content.find('\n', begin);
    const size_t next = newline == std::string::npos ? content.size() : newline + 1;
    const std::string line = content.substr(begin, next - begin);
    const auto within = newline == std::string::npos ? std::nullopt : is_within(line, end);
    if (!within) ++damaged;
    if (within.value_or(false)) kept += line;
    begin = next;
  }
  if (damaged > 0) log_warning(concat(file.string(), ": ", damaged, " torn line(s) dropped"));
  if (kept != content) write_file_atomically(file, kept);
}

MetricsWriter::MetricsWriter(const fs::path& file, const fs::path& tensorboard, const MetricsEnd& end)
    : file_(cut(file, end), OutputFile::Mode::append),
      tensorboard_(tensorboard.empty() ? nullptr
                                       : std::make_unique<TensorBoardWriter>(tensorboard, end.step + 1)) {}

void MetricsWriter::write(const TrainMetrics& row) { write(to_json(row), "train/"); }

void MetricsWriter::write(const ValidationMetrics& row) {
  write(to_json(row), concat("validation/", row.set, "/"));
}

void MetricsWriter::write(const TaskMetrics& row) { write(to_json(row), concat("task/", row.set, "/")); }

void MetricsWriter::write(const ordered_json& row, const std::string& tag_prefix) {
  file_.write(row.dump(-1, ' ', /*ensure_ascii=*/false, ordered_json::error_handler_t::replace) + "\n");
  if (!tensorboard_) return;
  Scalars scalars;
  for (const auto& [name, value] : row.items())
    if (value.is_number() && name != "step") scalars.emplace_back(tag_prefix + name, value.get<double>());
  tensorboard_->write(row.at("step"), scalars);
}

}  // namespace transxssm
