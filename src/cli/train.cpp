#include "cli/train.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/ranks.h"
#include "config/load.h"
#include "core/check.h"
#include "parallel/mesh.h"
#include "trainer/launch.h"

namespace transxssm {
namespace {

constexpr int kBadInput = 2;  // exit code

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  LaunchOptions launch;
  RankOptions ranks;
};

// What this process was asked to do, for one of the ranks that it starts.
std::vector<std::string> rank_arguments(const Options& options) {
  std::vector<std::string> command{"train", "--config", options.config};
  const auto add = [&](const std::string& flag, const std::string& value) {
    command.insert(command.end(), {flag, value});
  };
  for (const std::string& field : options.overrides) add("--set", field);
  add("--set", options.ranks.gpus > 0 ? "train.device=cuda" : "train.device=cpu");
  add("--resume", options.launch.resume);
  if (!options.launch.init_from.empty()) add("--init-from", options.launch.init_from);
  for (const std::string& field : options.launch.allow_change) add("--allow-change", field);
  return command;
}

// Of this process, alone or as the rank that a launcher made it.
int train_here(const Options& options, const RunConfig& config,
               const std::optional<RankEnvironment>& environment) {
  if (!environment) return launch_training(config, options.launch, Mesh::single());
  if (config.train.device != Device::cpu) take_own_gpu(*environment);
  Mesh mesh = Mesh::join(*environment, std::chrono::seconds(config.parallel.timeout_seconds));
  const bool speaks = mesh.is_first();
  try {
    return launch_training(config, options.launch, std::move(mesh));
  } catch (const InputError&) {  // which the first rank says for all
    if (speaks) throw;
    return kBadInput;
  }
}

}  // namespace

void add_train_command(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("train", "Pretrain a model as a YAML file says");
  auto options = std::make_shared<Options>();
  command->add_option("--config", options->config, "YAML file of the run")->required();
  command->add_option("--set", options->overrides, "Override a field: a.b=value (may be repeated)");
  command
      ->add_option(
          "--resume", options->launch.resume,
          "auto: newest valid checkpoint of the run folder, if any; none: start afresh; or a run, step or "
          "exported folder to go on from")
      ->capture_default_str();
  command->add_option("--init-from", options->launch.init_from,
                      "Start at step 0 with the weights of this run, step or exported folder");
  command
      ->add_option("--allow-change", options->launch.allow_change,
                   "Fields that may differ from the checkpoint's although they change the mathematics: a.b,c")
      ->delimiter(',');
  add_rank_options(*command, options->ranks, "Train");
  command->callback([options, &exit_code] {
    const RunConfig config = load_config(options->config, options->overrides);
    exit_code = options->ranks.given()
                    ? start_ranks(options->ranks, config.train.device, rank_arguments(*options),
                                  static_cast<int>(config.train.stop_exit_code))
                    : train_here(*options, config, rank_environment(environment_variables()));
  });
}

}  // namespace transxssm
