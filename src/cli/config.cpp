// The verb `config`: the resolved configuration, its JSON Schema, its documentation.
#include "cli/config.h"

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "config/load.h"

namespace transxssm {

void add_config_command(CLI::App& app) {
  CLI::App* config = app.add_subcommand("config", "The configuration: resolved, as JSON Schema, documented");
  config->require_subcommand(1);

  struct ShowOptions {
    std::string file;
    std::vector<std::string> overrides;
  };
  const auto options = std::make_shared<ShowOptions>();
  CLI::App* show =
      config->add_subcommand("show", "Check a configuration and print it complete, as a run uses it");
  show->add_option("--config", options->file, "YAML file")->required();
  show->add_option("--set", options->overrides, "a.b=v: override one field (docs/config.md)");
  show->callback([options] { std::cout << to_yaml(load_config(options->file, options->overrides)); });

  config->add_subcommand("schema", "Print the JSON Schema of the file, for editors")->callback([] {
    std::cout << config_schema().dump(2) << "\n";
  });
  config->add_subcommand("markdown", "Print docs/config.md")->callback([] {
    std::cout << config_markdown();
  });
}

}  // namespace transxssm
