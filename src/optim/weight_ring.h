// Weights of matrices that ranks share (ZeRO stage 3): gathered into the slots of a ring, a block ahead of
// the pass that reads them.
#pragma once

#include <cstddef>
#include <vector>

#include <ATen/core/Tensor.h>

#include "optim/flat_parameters.h"
#include "parallel/mesh.h"

namespace transxssm {

// A pass goes through units: 0 is the embedding, then come the blocks, and last what follows them (the head;
// with tied embeddings that is unit 0 again). While operators of one block are queued the weights of the next
// are on their way, on the communicator's stream, into the slot of the one before. All ranks make the same
// passes. What a unit's slot holds after its use is another's.
class WeightRing {
 public:
  WeightRing(const FlatParameters& parameters, const Mesh& mesh);  // both outlive this

  // Operators that are queued from here on read the weights of the unit that begins with parameter number
  // `first_spec`. Unit 0 begins a pass: weights may have changed since the one before.
  void forward(size_t first_spec);
  // In a backward pass: the one of the unit that begins with `first_spec` is queued, next is the unit before.
  void backward(size_t first_spec);

 private:
  struct Unit {
    int64_t slot = -1;  // none: it has no matrices of its own
    at::Tensor whole, own;
  };
  struct Slot {
    const Unit* holds = nullptr;
    PendingCollective pending;
  };
  void start(size_t unit);
  void use(size_t unit);
  size_t last_block() const { return units_.size() - 2; }

  const Mesh& mesh_;
  std::vector<size_t> first_specs_;  // of units from 1 on
  std::vector<Unit> units_;
  std::vector<Slot> slots_;
};

}  // namespace transxssm
