// What ranks that train together tell each other of their parameters: sums of gradients, and weights that
// others have updated.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "optim/flat_parameters.h"
#include "optim/weight_ring.h"
#include "parallel/mesh.h"

namespace transxssm {

// Where a micro-batch comes in its step.
struct Turn {
  bool first, last;
};

class ParameterExchange {
 public:
  // Sums are formed in `reduce_dtype`: f32, or bf16 for half the bytes, rounded once more. Both outlive this.
  ParameterExchange(FlatParameters& parameters, const Mesh& mesh, at::ScalarType reduce_dtype);

  // Whether a micro-step communicates: where ranks share gradients each does, else a step's last.
  bool takes_part_in(Turn turn) const { return parameters_.sharding().shares_gradients() || turn.last; }

  // Around the backward pass of such a micro-step: its gradients of the parameters from number `first_spec`
  // on are final, then those of all. Each bucket is sent when its last parameter is final, beside the rest of
  // the backward pass; what ranks don't share after the last micro-step only. After finish_gradients() of the
  // last one this rank's owned gradients are sums over the ranks; others that it doesn't own mean nothing
  // where ranks share.
  //
  // From stage 2 on the sums arrive in the ring. Before a block's backward pass begins, those of the block
  // that has had the same slot are added to the owned gradients, so at most kRingBlocks are on their way.
  void start_gradients(Turn turn);
  void gradients_final(size_t first_spec);
  void finish_gradients();

  // Where ranks share weights, in every forward pass, before the operators that read them (WeightRing).
  bool shares_weights() const { return weight_ring_.has_value(); }
  void weights_needed(size_t first_spec) { weight_ring_->forward(first_spec); }

  // f64 [n] becomes the sum over the ranks.
  void sum(const at::Tensor& numbers) const { mesh_.all_reduce(numbers); }

  // Where the optimizer state is shared: the range was updated; finish_weights() then has everybody's.
  void weights_final(const OwnedRange& range);
  void finish_weights();

  // After every rank has loaded its part of the state: each gets what it needs of the others'.
  void share_state();

 private:
  struct Place {
    const FlatBuffer* buffer;
    const Bucket* bucket;
    at::Tensor owned;  // gradients of this rank's part of it, where ranks share
    bool in_ring() const { return buffer->grad_ring.defined(); }
  };
  struct Sum {
    const Place* place;
    PendingCollective pending;
    at::Tensor sent;  // where the sum arrives
    at::Tensor grad;  // where it belongs
  };
  at::Tensor owned_part(const FlatBuffer& buffer, const Bucket& bucket) const;
  void send_gradients(const Place& place);
  void finish(Sum& sum);
  void free_next_slot();

  FlatParameters& parameters_;
  const Mesh& mesh_;
  at::ScalarType reduce_dtype_;
  std::vector<Place> order_;  // in which buckets become final
  size_t sent_ = 0;           // of this micro-step
  Turn turn_{};
  std::vector<Sum> sums_;
  std::optional<WeightRing> weight_ring_;
  std::vector<PendingCollective> weights_;
};

}  // namespace transxssm
