// How a launch begins: afresh, from another run's weights, or where a checkpoint left off; and whether the
// configuration still fits that checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "checkpoint/locate.h"
#include "config/run_config.h"

namespace transxssm {

// The flags of `transxssm train` beside the configuration.
struct LaunchOptions {
  std::string resume = "auto";  // auto | none | a run, step or exported folder
  std::string init_from;        // such a folder whose weights to start from; empty: initial values
  std::vector<std::string> allow_change;
};

struct StartPlan {
  enum class Kind { fresh, init_from, resume };
  Kind kind = Kind::fresh;
  std::filesystem::path checkpoint;  // step folder, unless fresh; for init_from also an exported folder
};

// auto: the newest valid checkpoint of `run_dir` (each damaged newer one is named in a warning), else
// `init_from`, else a fresh start. none: refused when `run_dir` has checkpoints. A path: that checkpoint,
// refused when `run_dir` has checkpoints and it is none of them; of an exported folder, which holds nothing
// else, the weights. `damage` says why a checkpoint can't be trusted. Throws InputError.
StartPlan plan_start(const LaunchOptions& options, const std::filesystem::path& run_dir,
                     const DamageOf& damage = damage_of);

// The configuration with which a run goes on from a checkpoint of step `step`: the present one, compared to
// the one stored with the checkpoint. Changes that leave the mathematics alone are logged; the others throw
// InputError, field by field, unless `allow` names them. Raising train.max_steps is free as long as every
// step so far keeps its learning rate; for that, a warm-up that is over and was given as a share keeps its
// steps.
RunConfig resumed_config(const nlohmann::json& saved, RunConfig now, int64_t step,
                         const std::vector<std::string>& allow);

// Refuses to go on from a checkpoint with another tokenizer, by its hash, unless `allow` has data.tokenizer:
// its file may lie elsewhere, but its ids must mean the same.
void expect_tokenizer(const std::string& saved_hash, const std::string& hash,
                      const std::vector<std::string>& allow);

}  // namespace transxssm
