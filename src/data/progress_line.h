// One line on a terminal that shows how far a long job is.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace transxssm {

// Silent when standard error is no terminal.
class ProgressLine {
 public:
  // `total` bytes are to be done; 0 when unknown.
  ProgressLine(std::string what, uint64_t total);
  ~ProgressLine();  // clears the line
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Draws at most a few times a second. `skipped` of the `done` bytes were passed over without work, at a
  // resume.
  void show(uint64_t done, uint64_t skipped, const std::string& detail);
  void clear();  // before other output; the next show() draws again

 private:
  using Clock = std::chrono::steady_clock;
  std::string what_;
  uint64_t total_;
  bool terminal_;
  bool drawn_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_;
};

}  // namespace transxssm
