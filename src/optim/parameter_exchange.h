// What ranks that train together tell each other of their parameters: sums of gradients, and weights that
// others have updated.
#pragma once

#include <cstddef>
#include <vector>

#include <ATen/core/Tensor.h>

#include "optim/flat_parameters.h"
#include "parallel/mesh.h"

namespace transxssm {

class ParameterExchange {
 public:
  // Sums are formed in `reduce_dtype`: f32, or bf16 for half the bytes, rounded once more. Both outlive this.
  ParameterExchange(FlatParameters& parameters, const Mesh& mesh, at::ScalarType reduce_dtype);

  // Around the backward pass of a step's last micro-batch, the only one that communicates: first its
  // gradients of the parameters from number `first_spec` on are final, then those of all. Each bucket is sent
  // when its last parameter is final, beside the rest of the backward pass. After finish_gradients() this
  // rank's owned gradients are sums over the ranks; others that it doesn't own mean nothing where the
  // optimizer state is shared.
  void gradients_final(size_t first_spec);
  void finish_gradients();

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
  };
  struct Sum {
    PendingCollective pending;
    at::Tensor sent;  // where the sum arrives
    at::Tensor grad;  // where it belongs
  };
  void send_gradients(const Place& place);

  FlatParameters& parameters_;
  const Mesh& mesh_;
  at::ScalarType reduce_dtype_;
  std::vector<Place> order_;  // in which buckets become final
  size_t sent_ = 0;           // of this step
  std::vector<Sum> sums_;
  std::vector<PendingCollective> weights_;
};

}  // namespace transxssm
