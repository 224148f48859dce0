#include "checkpoint/locate.h"

#include <algorithm>
#include <cstdio>
#include <tuple>

#include "checkpoint/reader.h"
#include "core/check.h"
#include "core/logging.h"
#include "parallel/agreement.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

constexpr const char* kStepPrefix = "step_";
constexpr const char* kValid =
    "valid are a run folder, its checkpoints folder, a step folder, or RUN/latest for the newest checkpoint";

// The step in a folder's name; nothing for other names, temporary ones included.
std::optional<int64_t> step_of(const std::string& name) {
  const size_t prefix = std::char_traits<char>::length(kStepPrefix);
  if (name.rfind(kStepPrefix, 0) != 0 || name.size() == prefix || name.size() > prefix + 18)
    return std::nullopt;
  if (name.find_first_not_of("0123456789", prefix) != std::string::npos) return std::nullopt;
  return std::stoll(name.substr(prefix));
}

CheckpointEntry entry_of(const fs::path& folder, int64_t step) {
  CheckpointEntry entry{folder, step, std::nullopt, ""};
  try {
    entry.manifest = read_manifest(folder);
    if (entry.manifest->step != step)
      entry.problem = concat("its manifest is that of step ", entry.manifest->step);
  } catch (const std::exception& error) {
    entry.problem =
        fs::exists(folder / kManifestName) ? error.what() : "it has no manifest.json: its save did not end";
  }
  if (!entry.problem.empty()) entry.manifest.reset();
  return entry;
}

// What a user means by `path`: RUN/latest is the run's newest checkpoint, also where the link, which lies
// beside the step folders, does not exist or leads nowhere. Absolute, so that a step folder's parents are its
// run.
fs::path meant_by(const fs::path& path) {
  const fs::path given = (fs::current_path() / path / "").lexically_normal().parent_path();
  const bool is_newest =
      given.filename() == kLatest && !fs::exists(given) && fs::is_directory(given.parent_path());
  return fs::weakly_canonical(is_newest ? given.parent_path() : given);
}

// `path`, or what the link `latest` points to, when that is a step folder.
std::optional<fs::path> step_folder_at(const fs::path& path) {
  fs::path folder = fs::weakly_canonical(path);
  if (step_of(folder.filename().string()) && fs::is_directory(folder)) return folder;
  return std::nullopt;
}

}  // namespace

std::string step_folder_name(int64_t step) {
  char name[40];
  std::snprintf(name, sizeof name, "%s%08lld", kStepPrefix, static_cast<long long>(step));
  return name;
}

std::vector<CheckpointEntry> list_checkpoints(const fs::path& path) {
  if (const auto folder = step_folder_at(path))
    return {entry_of(*folder, *step_of(folder->filename().string()))};
  const fs::path inner = path / "checkpoints";
  const fs::path folder = fs::is_directory(inner) ? inner : path;
  std::vector<CheckpointEntry> entries;
  if (!fs::is_directory(folder)) return entries;
  for (const auto& item : fs::directory_iterator(folder)) {
    const auto step = step_of(item.path().filename().string());
    if (step && item.is_directory()) entries.push_back(entry_of(item.path(), *step));
  }
  const auto order = [](const CheckpointEntry& entry) {
    return std::tuple(entry.manifest ? entry.manifest->save_index : -1, entry.step);
  };
  std::sort(entries.begin(), entries.end(),
            [&](const auto& a, const auto& b) { return order(a) < order(b); });
  return entries;
}

std::string damage_of(const CheckpointEntry& entry) { return damage_in_share(entry, 0, 1); }

std::string damage_in_share(const CheckpointEntry& entry, size_t share, size_t shares) {
  if (!entry.problem.empty()) return entry.problem;
  try {
    CheckpointReader(entry.folder).verify(share, shares);
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

std::string with_shared_checks(const Mesh& mesh, const std::function<std::string(const DamageOf&)>& work) {
  const auto own_share = [&](const std::string& folder) {
    return damage_in_share({folder, 0, std::nullopt, ""}, static_cast<size_t>(mesh.rank()),
                           static_cast<size_t>(mesh.size()));
  };
  const auto with_help = [&](const Ask& ask) {
    return work([&](const CheckpointEntry& entry) -> std::string {
      if (!entry.problem.empty()) return entry.problem;
      for (std::string& damage : ask(entry.folder.string()))
        if (!damage.empty()) return std::move(damage);
      return "";
    });
  };
  return on_first_with_help(mesh, with_help, own_share);
}

LatestCheckpoint find_latest_valid(const fs::path& run_or_checkpoints, const DamageOf& damage) {
  LatestCheckpoint latest;
  int64_t chosen_step = -1;
  auto entries = list_checkpoints(run_or_checkpoints);
  std::reverse(entries.begin(), entries.end());
  for (auto& entry : entries) {
    if (latest.folder && (entry.manifest || entry.step < chosen_step)) continue;
    entry.problem = damage(entry);
    if (!entry.problem.empty()) {
      latest.skipped.push_back(std::move(entry));
    } else {
      latest.folder = entry.folder;
      chosen_step = entry.step;
    }
  }
  return latest;
}

fs::path resolve_checkpoint(const fs::path& path) {
  const fs::path meant = meant_by(path);
  expect_input(fs::exists(meant),
               concat("no checkpoint at ", path.string(), ": it does not exist; ", kValid));
  expect_input(fs::is_directory(meant),
               concat("no checkpoint at ", path.string(), ": it is a file; ", kValid));
  if (const auto folder = step_folder_at(meant)) return *folder;
  const LatestCheckpoint latest = find_latest_valid(meant);
  for (const auto& skipped : latest.skipped)
    log_warning(concat("checkpoint ", skipped.folder.string(), " is skipped: ", skipped.problem));
  expect_input(
      latest.folder.has_value(),
      concat("no valid checkpoint in ", path.string(), " (",
             latest.skipped.empty() ? "there is none" : concat(latest.skipped.size(), " are damaged"), "); ",
             kValid));
  return *latest.folder;
}

}  // namespace transxssm
