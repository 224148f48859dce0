#include "cli/train.h"

#include <memory>
#include <string>
#include <vector>

#include "config/load.h"
#include "trainer/launch.h"

namespace transxssm {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  LaunchOptions launch;
};

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
  command->callback([options, &exit_code] {
    exit_code = launch_training(load_config(options->config, options->overrides), options->launch);
  });
}

}  // namespace transxssm
