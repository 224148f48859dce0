// status.json of a run folder: what the run is doing or how it ended, for schedulers and scripts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace transxssm {

enum class RunState { running, finished, stopped, failed };

struct RunStatus {
  RunState state = RunState::running;
  int64_t step = 0;
  std::string reason;            // why it stopped or failed; empty while running
  std::optional<int> exit_code;  // none while running
};

// Replaces the file atomically; adds the time, host and process.
void write_status(const std::filesystem::path& file, const RunStatus& status);

// Whether a file says that a run finished; false without one.
bool says_finished(const std::filesystem::path& file);

}  // namespace transxssm
