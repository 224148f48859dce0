// The storage of all parameters: a few flat buffers of which everything else is a view, so that the
// optimizer, the gradient norm and checkpoints are single passes over contiguous memory.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/parameter.h"
#include "core/state.h"
#include "optim/flat_layout.h"

namespace transxssm {

enum class ParameterUse {
  training,
  inference,  // only compute weights: no master, no gradients, no moments
};

// One kind of parameter. All tensors are one-dimensional, of equal length and equal layout; gaps between
// parameters and padding rows are zero in each. What ranks share (Sharding) holds this rank's parts of the
// buckets only, one after the other: m, v and a master that isn't `compute`; gradients of matrices from stage
// 2 on.
struct FlatBuffer {
  at::Tensor compute;   // what operators read; the master itself where the compute dtype is f32
  at::Tensor master;    // f32
  at::Tensor grad;      // f32
  at::Tensor m;         // Adam's first moment, f32
  at::Tensor v;         // Adam's second moment, f32
  int64_t decayed = 0;  // elements [0, decayed) take weight decay, the rest doesn't
  int64_t size = 0;     // of the layout
  std::vector<Bucket> buckets;
  at::Tensor grad_ring;  // from stage 2 on: where operators add up a micro-batch's gradients of matrices

  at::Tensor weight_ring;  // at stage 3: where operators find weights of matrices (optim/weight_ring.h)

  // Where operators find a bucket's gradients.
  at::Tensor gradients(const Bucket& bucket) const {
    return grad_ring.defined() ? grad_ring.narrow(0, bucket.in_ring, bucket.size())
                               : grad.narrow(0, bucket.begin, bucket.size());
  }
};

// Elements [begin, end) of a buffer that this rank updates, all decayed or none.
struct OwnedRange {
  const FlatBuffer* buffer;
  int64_t begin, end;
  bool decayed;
  at::Tensor master, m, v, grad;
  at::Tensor compute;  // undefined where it is the master
};

enum class StatePart { weight, m, v };

// Bytes of what a rank allocates.
struct FlatBytes {
  uint64_t weights = 0, weight_ring = 0;  // weights: with masters
  uint64_t gradients = 0, gradient_ring = 0;
  uint64_t moments = 0;

  uint64_t total() const { return weights + weight_ring + gradients + gradient_ring + moments; }
};

// A logical tensor (core/parameter.h), as views of the buffers where this rank holds them whole.
struct LogicalView {
  std::string name;
  Init init;
  std::vector<int64_t> shape;
  const FlatBuffer* buffer;
  int64_t offset;     // in the buffer, in elements
  at::Tensor weight;  // of the master; of compute for inference. These are undefined where ranks share them
  at::Tensor m;       // undefined for inference, like v
  at::Tensor v;
};

class FlatParameters final : public Stateful {
 public:
  // Zeros everywhere: initialize() (optim/init.h) or load_state() gives values. Matrices compute in
  // `compute_dtype` (bf16 or f32); vectors are f32. With f64, for gradient checks on a CPU, every buffer is
  // f64.
  FlatParameters(const std::vector<ParameterSpec>& specs, at::Device device, at::ScalarType compute_dtype,
                 ParameterUse use = ParameterUse::training, const Sharding& sharding = {});
  FlatParameters(const FlatParameters&) = delete;  // Parameters are views of this object's buffers
  FlatParameters& operator=(const FlatParameters&) = delete;

  // What the constructor allocates.
  static FlatBytes bytes_needed(const std::vector<ParameterSpec>& specs, at::ScalarType compute_dtype,
                                ParameterUse use = ParameterUse::training, const Sharding& sharding = {});

  const ParameterTable& table() const { return table_; }
  const std::vector<LogicalView>& logical() const { return logical_; }  // in the order of the specs
  const FlatBuffer& matrices() const { return matrices_; }
  const FlatBuffer& vectors() const { return vectors_; }
  at::Device device() const { return matrices_.compute.device(); }

  // Elements of logical tensors: padding rows and alignment gaps don't count.
  int64_t parameter_count() const { return parameter_count_; }

  std::vector<at::Tensor> grads() const { return {matrices_.grad, vectors_.grad}; }

  // What this rank updates: everything, or its part of each bucket in the order of the buckets.
  const Sharding& sharding() const { return sharding_; }
  const std::vector<OwnedRange>& owned() const { return owned_; }
  std::vector<at::Tensor> owned_grads() const;  // neighbours joined

  // Writes elements [first, first + values.numel()) of a tensor, as far as this rank holds them: of the
  // weight the master and the compute copy. values: one-dimensional, on any device.
  void write(const LogicalView& tensor, StatePart part, const at::Tensor& values, int64_t first = 0);

  // Around the first micro-step of a step: drops the gradients of the step before. Those of vectors become
  // zero; those of matrices, nearly all bytes, are replaced by the first operator to write, or zeroed at
  // last. Where ranks share gradients each micro-step has its own, and these are about vectors.
  void start_gradients();
  void complete_gradients();

  // Of one bucket alone: before its gradients are sent, when no operator will write to them any more, and
  // after that, when they have become another's.
  void complete_gradients(const FlatBuffer& buffer, const Bucket& bucket);
  void drop_gradients(const Bucket& bucket);

  // Rounds the master to the compute copy, after the master was written from outside.
  void refresh_compute();

  // Throws when a parameter's weight or gradient no longer lies at its place in the buffers.
  void check_views() const;

  // Tensors model/<logical>, adam_m/<logical>, adam_v/<logical>: of each the elements that this rank saves,
  // at any stage its part of the tensor's bucket, which is all of it for a rank alone. Loading needs these
  // elements and takes more; ParameterExchange::share_state() brings the other ranks'. It refuses what is
  // missing, superfluous, or of another shape or dtype, on every rank and before anything is changed.
  void save_state(StateDict& out) const override;
  void load_state(const StateDict& in) override;
  // Which elements of a tensor of that name this rank saves; nothing for unknown names.
  std::optional<ElementRange> own_part(const std::string& name) const;

  // Weights only: model/<logical>, f32 or bf16. Moments become zero.
  void load_weights(const StateDict& in);

  // The same with one tensor in memory at a time: `names` are all there are, `read` gives one of them. What
  // is wrong with a tensor is found when its turn comes.
  void load_weights(const std::vector<std::string>& names,
                    const std::function<at::Tensor(const std::string& name)>& read);

 private:
  struct Place {  // of a packed parameter
    ParameterPtr parameter;
    const FlatBuffer* buffer;
    int64_t offset;        // in the layout, in elements
    int64_t in_ring = -1;  // where there is one
    std::vector<int64_t> shape;
  };
  void add(const ParameterSpec& spec, const FlatBuffer& buffer, int64_t offset, int64_t in_ring);
  void add_owned(const FlatBuffer& buffer);
  ElementRange own_part(const LogicalView& tensor) const;
  void expect_logical_shapes(const StateDict& in, const std::string& prefix,
                             std::initializer_list<at::ScalarType> dtypes) const;
  void zero();

  ParameterUse use_;
  Sharding sharding_;
  FlatBuffer matrices_;
  FlatBuffer vectors_;
  std::vector<Place> places_;  // in the order of the specs
  std::vector<OwnedRange> owned_;
  std::vector<LogicalView> logical_;
  ParameterTable table_;
  int64_t parameter_count_ = 0;
};

}  // namespace transxssm
