#include "trainer/start_plan.h"

#include <algorithm>

#include "checkpoint/locate.h"
#include "config/changes.h"
#include "config/load.h"
#include "config/schedule.h"
#include "core/check.h"
#include "core/counted.h"
#include "core/logging.h"
#include "export/folder.h"
#include "optim/lr_schedule.h"
#include "trainer/inference.h"

namespace transxssm {
namespace fs = std::filesystem;
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

bool warmup_is_over(const RunConfig& config, int64_t step) {
  return step >= resolve_schedule(config).warmup_steps;
}

// As a share of a raised train.max_steps, a warm-up that is over would begin again.
void keep_finished_warmup(const RunConfig& before, RunConfig& now, int64_t step) {
  const int64_t steps = resolve_schedule(before).warmup_steps;
  const bool same_share =
      before.schedule.warmup_ratio == now.schedule.warmup_ratio || before.schedule.warmup_ratio == 0;
  if (now.schedule.warmup_ratio == 0 || !same_share || !warmup_is_over(before, step) ||
      resolve_schedule(now).warmup_steps == steps)
    return;
  now.schedule.warmup_ratio = 0;
  now.schedule.warmup_steps = steps;
  log_info(concat("the warm-up is over and stays ", counted(steps, "step"),
                  ", whatever schedule.warmup_ratio gives now"));
}

// Whether another value of the field changes nothing that the run has computed or was going to compute.
bool is_harmless(const std::string& key, const RunConfig& before, const RunConfig& now, int64_t step) {
  const auto keeps_past = [&] { return keeps_past_learning_rates(before, now, step); };
  if (key == "train.max_steps") return now.train.max_steps > before.train.max_steps && keeps_past();
  if (key == "schedule.warmup_steps" || key == "schedule.warmup_ratio")
    return warmup_is_over(before, step) && warmup_is_over(now, step) && keeps_past();
  return !changes_mathematics(key);
}

// Whether a run that begins with `from` may use this folder: it has no checkpoints, or `from` is one of them.
bool is_free_for(const fs::path& from, const fs::path& run_dir) {
  const auto own = list_checkpoints(run_dir);
  return own.empty() || std::any_of(own.begin(), own.end(),
                                    [&](const auto& entry) { return fs::equivalent(entry.folder, from); });
}

}  // namespace

StartPlan plan_start(const LaunchOptions& options, const fs::path& run_dir, const DamageOf& damage) {
  if (options.resume == "auto") {
    const auto latest = find_latest_valid(run_dir, damage);
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
    const fs::path from = weights_folder(options.resume);
    expect_input(is_free_for(from, run_dir),
                 concat("--resume ", options.resume, ": ", run_dir.string(),
                        " already has checkpoints, of another run; choose another train.run_dir"));
    if (!is_exported_folder(from)) return {StartPlan::Kind::resume, from};
    log_info("an exported folder holds weights only: the optimizer, the schedule and the data start anew");
    return {StartPlan::Kind::init_from, from};
  }
  if (options.init_from.empty()) return {};
  return {StartPlan::Kind::init_from, weights_folder(options.init_from)};
}

RunConfig resumed_config(const nlohmann::json& saved, RunConfig now, int64_t step,
                         const std::vector<std::string>& allow) {
  const RunConfig before = config_from_json(saved);
  const auto allowed = [&](const std::string& key) {
    return std::find(allow.begin(), allow.end(), key) != allow.end();
  };
  const auto given = to_json(now);
  if (!allowed("schedule.warmup_ratio")) keep_finished_warmup(before, now, step);
  const auto present = to_json(now);
  const auto given_changes = changed_fields(saved, given);
  std::string refused;
  std::string refused_keys;
  for (const std::string& key : changed_fields(saved, present)) {
    // What keep_finished_warmup wrote is no wish of the user's.
    if (std::find(given_changes.begin(), given_changes.end(), key) == given_changes.end()) continue;
    const std::string change = concat(key, ": ", value_at(saved, key), " -> ", value_at(present, key));
    if (is_harmless(key, before, now, step) || allowed(key)) {
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
  return now;
}

void expect_tokenizer(const std::string& saved_hash, const std::string& hash,
                      const std::vector<std::string>& allow) {
  if (saved_hash == hash || std::find(allow.begin(), allow.end(), "data.tokenizer") != allow.end()) return;
  const auto named = [](const std::string& h) {
    return h.empty() ? "no tokenizer" : "the tokenizer of hash " + h;
  };
  throw InputError(concat("data.tokenizer: the checkpoint was trained with ", named(saved_hash), ", here is ",
                          named(hash),
                          ": its ids may mean something else. Give the run's own (a copy is in its "
                          "folder), or accept with --allow-change data.tokenizer"));
}

}  // namespace transxssm
