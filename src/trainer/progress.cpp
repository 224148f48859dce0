#include "trainer/progress.h"

#include <cmath>
#include <cstdio>

namespace transxssm {
namespace {

template <class... Args>
std::string format(const char* pattern, Args... args) {
  char text[64];
  std::snprintf(text, sizeof text, pattern, args...);
  return text;
}

// By how much a rank must be slower than the quickest to be named.
constexpr double kStraggles = 0.05;

std::string format_rate(double per_second) {
  if (per_second >= 1e6) return format("%.2f M", per_second / 1e6);
  if (per_second >= 1e3) return format("%.1f k", per_second / 1e3);
  return format("%.0f", per_second);
}

}  // namespace

std::string format_duration(double seconds) {
  const auto s = std::llround(seconds);
  if (s < 60) return format("%lld s", s);
  if (s < 3600) return format("%lld min", s / 60);
  if (s < 86400) return format("%lld h %02lld min", s / 3600, s % 3600 / 60);
  return format("%lld d %02lld h", s / 86400, s % 86400 / 3600);
}

std::string progress_line(const TrainMetrics& row, int64_t max_steps) {
  const double share = 100.0 * static_cast<double>(row.step) / static_cast<double>(max_steps);
  std::string line = "step " + std::to_string(row.step) + "/" + std::to_string(max_steps) +
                     format(" (%.0f%%)", share) + format(" | loss %.4f", row.loss) +
                     format(" | lr %.2e", row.lr) + format(" | norm %.2f", row.grad_norm) + " | " +
                     format_rate(row.tokens_per_second) + " tok/s";
  if (row.mfu) line += format(" | MFU %.1f%%", 100 * *row.mfu);
  if (row.memory_peak_gib) line += format(" | %.1f GiB", *row.memory_peak_gib);
  if (row.ranks) {
    line += format(" | comm %.1f%%", 100 * row.ranks->exposed_communication_seconds / row.step_time_seconds);
    const double lag = row.ranks->rank_step_seconds_max / row.ranks->rank_step_seconds_min - 1;
    if (lag > kStraggles)
      line += " | rank " + std::to_string(row.ranks->slowest_rank) + format(" lags %.0f%%", 100 * lag);
  }
  if (row.skipped_steps > 0) line += " | skipped " + std::to_string(row.skipped_steps);
  return line + " | ETA " +
         format_duration(static_cast<double>(max_steps - row.step) * row.step_time_seconds);
}

}  // namespace transxssm
