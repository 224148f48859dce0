#include "cli/train.h"

#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/detail/CUDAHooksInterface.h>

#include "config/load.h"
#include "core/check.h"
#include "core/counted.h"
#include "core/logging.h"
#include "parallel/local_ranks.h"
#include "parallel/mesh.h"
#include "trainer/launch.h"

namespace transxssm {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  LaunchOptions launch;
  int gpus = 0, ranks = 0;  // local ranks to start
};

// What this process was asked to do, as one of the ranks that it starts.
std::vector<std::string> rank_command(const Options& options) {
  std::vector<std::string> command{"/proc/self/exe", "train", "--config", options.config};
  const auto add = [&](const std::string& flag, const std::string& value) {
    command.insert(command.end(), {flag, value});
  };
  for (const std::string& field : options.overrides) add("--set", field);
  add("--set", options.gpus > 0 ? "train.device=cuda" : "train.device=cpu");
  add("--resume", options.launch.resume);
  if (!options.launch.init_from.empty()) add("--init-from", options.launch.init_from);
  for (const std::string& field : options.launch.allow_change) add("--allow-change", field);
  return command;
}

int start_ranks(const Options& options, const RunConfig& config,
                const std::optional<RankEnvironment>& environment) {
  const std::string option = options.gpus > 0 ? "--gpus" : "--ranks";
  expect_input(!environment, concat(option, " starts ranks, and ", environment ? environment->launcher : "",
                                    " has started this process as one; leave one of them out"));
  const Device needed = options.gpus > 0 ? Device::cuda : Device::cpu;
  expect_input(config.train.device == Device::automatic || config.train.device == needed,
               concat(option, " and train.device contradict each other: it must be auto or ",
                      options.gpus > 0 ? "cuda" : "cpu"));
  if (options.gpus > 0) {
    const int visible = at::detail::getCUDAHooks().deviceCount();
    expect_input(options.gpus <= visible,
                 concat("--gpus is ", options.gpus, ", but this machine shows ", counted(visible, "GPU")));
  }
  const LocalOutcome outcome =
      run_local_ranks({.count = options.gpus + options.ranks,
                       .command = rank_command(options),
                       .stop_exit_code = static_cast<int>(config.train.stop_exit_code)});
  constexpr int kBadInput = 2;  // rank 0 has said what is wrong
  if (!outcome.failure.empty() && outcome.exit_code != kBadInput) log_error(outcome.failure);
  return outcome.exit_code;
}

// Of this process, alone or as the rank that a launcher made it.
int train_here(const Options& options, const RunConfig& config,
               const std::optional<RankEnvironment>& environment) {
  if (!environment) return launch_training(config, options.launch, Mesh::single());
  if (config.train.device != Device::cpu)
    setenv("CUDA_VISIBLE_DEVICES", own_gpu(*environment, environment_variables()).c_str(), /*overwrite=*/1);
  return launch_training(config, options.launch,
                         Mesh::join(*environment, std::chrono::seconds(config.parallel.timeout_seconds)));
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
  constexpr int kMostRanks = 1024;
  auto* gpus =
      command->add_option("--gpus", options->gpus, "Train on so many GPUs of this machine, a rank each")
          ->check(CLI::Range(1, kMostRanks));
  command->add_option("--ranks", options->ranks, "Train with so many ranks on this machine's CPU")
      ->check(CLI::Range(1, kMostRanks))
      ->excludes(gpus);
  command->callback([options, &exit_code] {
    const RunConfig config = load_config(options->config, options->overrides);
    const auto environment = rank_environment(environment_variables());
    exit_code = options->gpus + options->ranks > 0 ? start_ranks(*options, config, environment)
                                                   : train_here(*options, config, environment);
  });
}

}  // namespace transxssm
