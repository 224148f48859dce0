#include "trainer/status.h"

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/clock.h"
#include "trainer/run_lock.h"

namespace transxssm {
namespace {

const char* name_of(RunState state) {
  switch (state) {
    case RunState::running:
      return "running";
    case RunState::finished:
      return "finished";
    case RunState::stopped:
      return "stopped";
    case RunState::failed:
      return "failed";
  }
  return "";
}

}  // namespace

void write_status(const std::filesystem::path& file, const RunStatus& status) {
  using nlohmann::ordered_json;
  const ProcessIdentity self = ProcessIdentity::self();
  const ordered_json tree = {
      {"state", name_of(status.state)},
      {"step", status.step},
      {"reason", status.reason},
      {"exit_code", status.exit_code ? ordered_json(*status.exit_code) : ordered_json()},
      {"time", utc_time()},
      {"host", self.host},
      {"pid", self.pid}};
  write_file_atomically(file, tree.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n");
}

bool says_finished(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return false;
  const auto tree = nlohmann::json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  if (!tree.is_object()) return false;
  return tree.value("state", nlohmann::json()) == name_of(RunState::finished);
}

}  // namespace transxssm
