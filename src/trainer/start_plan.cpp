#include "trainer/start_plan.h"

#include <algorithm>

#include "checkpoint/locate.h"
#include "config/changes.h"
#include "config/load.h"
#include "core/check.h"
#include "core/logging.h"
#include "optim/lr_schedule.h"

namespace transxssm {
namespace {

// The value at a dotted key, as text.
std::string value_at(const nlohmann::json& tree, const std::string& dotted) {
  std::string pointer = "/" + dotted;
  std::replace(pointer.begin(), pointer.end(), '.', '/');
  const nlohmann::json::json_pointer path(pointer);
  return tree.contains(path) ? tree.at(path).dump() : "(none)";
}

bool keeps_past_learning_rates(const RunConfig& before, const RunConfig& now, int64_t step) {
  const LrSchedule old_schedule = make_lr_schedule(before.optimizer, before.schedule, before.train.max_steps);
  const LrSchedule new_schedule = make_lr_schedule(now.optimizer, now.schedule, now.train.max_steps);
  for (int64_t s = 0; s < step; ++s)
    if (learning_rate(old_schedule, s) != learning_rate(new_schedule, s)) return false;
  return true;
}

}  // namespace

StartPlan plan_start(const LaunchOptions& options, const std::filesystem::path& run_dir) {
  if (options.resume == "auto") {
    const auto latest = find_latest_valid(run_dir);
    for (const auto& entry : latest.skipped)
      log_warning(concat("skipping checkpoint ", entry.folder.string(), ": ", entry.problem));
    if (latest.folder) {
      if (!options.init_from.empty())
        log_info(
            concat(run_dir.string(), " has checkpoints already: going on from there, not from --init-from"));
      return {StartPlan::Kind::resume, *latest.folder};
    }
    expect_input(latest.skipped.empty(),
                 concat(run_dir.string(),
                        " has checkpoints, but none is valid (see the warnings): repair or remove "
                        "them, or choose another train.run_dir"));
  } else if (options.resume == "none") {
    expect_input(list_checkpoints(run_dir).empty(),
                 concat("--resume none: ", run_dir.string(),
                        " already has checkpoints; go on with --resume auto, or choose "
                        "another train.run_dir"));
  } else {
    expect_input(options.init_from.empty(), "--resume PATH and --init-from exclude each other");
    return {StartPlan::Kind::resume, resolve_checkpoint(options.resume)};
  }
  if (!options.init_from.empty()) return {StartPlan::Kind::init_from, resolve_checkpoint(options.init_from)};
  return {};
}

void check_config_changes(const nlohmann::json& saved, const RunConfig& now, int64_t step,
                          const std::vector<std::string>& allow) {
  const RunConfig before = config_from_json(saved);
  const auto present = to_json(now);
  std::string refused;
  std::string refused_keys;
  for (const std::string& key : changed_fields(saved, present)) {
    const std::string change = concat(key, ": ", value_at(saved, key), " -> ", value_at(present, key));
    const bool harmless = key == "train.max_steps" ? now.train.max_steps > before.train.max_steps &&
                                                         keeps_past_learning_rates(before, now, step)
                                                   : !changes_mathematics(key);
    if (harmless || std::find(allow.begin(), allow.end(), key) != allow.end()) {
      log_info("configuration changed since the checkpoint: " + change);
      continue;
    }
    refused += "\n  " + change;
    refused_keys += (refused_keys.empty() ? "" : ",") + key;
  }
  expect_input(refused.empty(),
               concat("the checkpoint of step ", step, " was trained with another configuration:", refused,
                      "\nput it back, choose another train.run_dir, or accept with "
                      "--allow-change ",
                      refused_keys));
}

}  // namespace transxssm
