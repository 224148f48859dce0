// The verb `config`: the resolved configuration, its JSON Schema, its documentation.
#pragma once

namespace CLI {
class App;
}

namespace transxssm {

void add_config_command(CLI::App& app);

}  // namespace transxssm
