#include "data/progress_line.h"

#include <cstdio>
#include <utility>

#include <unistd.h>

#include "core/atomic_file.h"
#include "core/check.h"

namespace transxssm {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(200);

std::string hours_minutes_seconds(double seconds) {
  const auto whole = static_cast<long>(seconds);
  char text[48];
  std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
  return text;
}

}  // namespace

ProgressLine::ProgressLine(std::string what, uint64_t total)
    : what_(std::move(what)), total_(total), terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() { clear(); }

void ProgressLine::show(uint64_t done, uint64_t skipped, const std::string& detail) {
  const auto now = Clock::now();
  if (!terminal_ || now - last_ < kInterval) return;
  last_ = now;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = seconds > 0 ? static_cast<double>(done - skipped) / seconds : 0;
  std::string line = concat(what_, ' ', format_bytes(done));
  if (total_ > 0) {
    const int percent = static_cast<int>(100.0 * static_cast<double>(done) / static_cast<double>(total_));
    line += concat(" of ", format_bytes(total_), " (", percent, " %)");
  }
  line += concat(", ", detail, ", ", format_bytes(static_cast<uint64_t>(rate)), "/s");
  if (total_ > done && rate > 0) {
    line += concat(", ETA ", hours_minutes_seconds(static_cast<double>(total_ - done) / rate));
  }
  std::fprintf(stderr, "\r\x1b[K%s", line.c_str());
  std::fflush(stderr);
  drawn_ = true;
}

void ProgressLine::clear() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
  drawn_ = false;
}

}  // namespace transxssm
