// Which part of an operator is timed.
#pragma once

namespace transxssm::bench {

enum class Pass {
  forward,  // without gradients: nothing is saved
  both,     // and backward, through autograd, from a given bf16 gradient of the output
};

}  // namespace transxssm::bench
