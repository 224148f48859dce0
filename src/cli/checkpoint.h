// The verb `checkpoint`: what a run's checkpoints hold, whether they are whole, and removing old ones. Needs
// no GPU.
#pragma once

namespace CLI {
class App;
}

namespace transxssm {

void add_checkpoint_command(CLI::App& app);

}  // namespace transxssm
