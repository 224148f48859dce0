#include "optim/flat_parameters.h"

#include <algorithm>
#include <set>

#include <ATen/ops/zeros.h>
#include <c10/util/accumulate.h>

namespace transxssm {
namespace {

// Parts are disjoint row ranges in order, of the parameter's own row shape.
void check_parts(const ParameterSpec& spec) {
  expect(!spec.shape.empty() && c10::multiply_integers(spec.shape) > 0,
         concat("parameter ", spec.name, " is empty"));
  int64_t row = 0;
  for (const LogicalTensor& part : spec.parts) {
    const bool same_rows = part.shape.size() == spec.shape.size() &&
                           std::equal(part.shape.begin() + 1, part.shape.end(), spec.shape.begin() + 1);
    expect(same_rows && part.shape[0] > 0 && part.row_begin >= row,
           concat("tensor ", part.name, " [", at::IntArrayRef(part.shape), "] does not fit into ", spec.name,
                  " ", at::IntArrayRef(spec.shape), " at row ", part.row_begin));
    row = part.row_begin + part.shape[0];
  }
  expect(row <= spec.shape[0], concat("the parts of ", spec.name, " have more rows than it has"));
}

void check_specs(const std::vector<ParameterSpec>& specs) {
  std::set<std::string> packed, logical;
  for (const ParameterSpec& spec : specs) {
    expect(packed.insert(spec.name).second, concat("two parameters are named ", spec.name));
    check_parts(spec);
    for (const LogicalTensor& part : spec.parts)
      expect(logical.insert(part.name).second, concat("two tensors are named ", part.name));
  }
}

// Elements of what ranks share on one of them.
int64_t held_elements(const FlatLayout& layout, const Sharding& sharding) {
  return sharding.shares_state() ? layout.size / sharding.ranks : layout.size;
}

FlatBuffer allocate(const FlatLayout& layout, const Sharding& sharding, at::Device device,
                    at::ScalarType compute_dtype, at::ScalarType master_dtype, ParameterUse use) {
  const auto zeros = [&](int64_t size, at::ScalarType dtype) {
    return at::zeros({size}, at::TensorOptions(dtype).device(device));
  };
  const int64_t held = held_elements(layout, sharding);
  FlatBuffer buffer;
  buffer.decayed = layout.decayed;
  buffer.size = layout.size;
  buffer.buckets = layout.buckets;
  const bool ring_of_weights = layout.ring_size > 0 && sharding.shares_weights();
  buffer.compute = zeros(ring_of_weights ? held : layout.size, compute_dtype);
  if (ring_of_weights) buffer.weight_ring = zeros(layout.ring_size, compute_dtype);
  if (use == ParameterUse::inference) return buffer;
  buffer.master = compute_dtype == master_dtype ? buffer.compute : zeros(held, master_dtype);
  buffer.grad = zeros(layout.ring_size > 0 ? held : layout.size, master_dtype);
  if (layout.ring_size > 0) buffer.grad_ring = zeros(layout.ring_size, master_dtype);
  buffer.m = zeros(held, master_dtype);
  buffer.v = zeros(held, master_dtype);
  return buffer;
}

// Of all tensors that allocate() makes.
void add_bytes(FlatBytes& bytes, const FlatLayout& layout, const Sharding& sharding,
               at::ScalarType compute_dtype, at::ScalarType master_dtype, ParameterUse use) {
  const uint64_t compute = c10::elementSize(compute_dtype), master = c10::elementSize(master_dtype);
  const auto size = static_cast<uint64_t>(layout.size), ring = static_cast<uint64_t>(layout.ring_size);
  const auto held = static_cast<uint64_t>(held_elements(layout, sharding));
  const bool ring_of_weights = ring > 0 && sharding.shares_weights();
  bytes.weights += (ring_of_weights ? held : size) * compute;
  if (ring_of_weights) bytes.weight_ring += ring * compute;
  if (use == ParameterUse::inference) return;
  if (compute_dtype != master_dtype) bytes.weights += held * master;
  bytes.gradients += (ring > 0 ? held : size) * master;
  bytes.gradient_ring += ring * master;
  bytes.moments += 2 * held * master;
}

at::ScalarType master_of(at::ScalarType compute_dtype) {
  return compute_dtype == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor view_of(const at::Tensor& buffer, int64_t offset, at::IntArrayRef shape) {
  return buffer.defined() ? buffer.narrow(0, offset, c10::multiply_integers(shape)).view(shape)
                          : at::Tensor();
}

bool lies_at(const at::Tensor& view, const at::Tensor& buffer, int64_t offset, at::IntArrayRef shape) {
  if (!buffer.defined()) return !view.defined();
  const auto* expected =
      static_cast<const char*>(buffer.const_data_ptr()) + static_cast<size_t>(offset) * buffer.element_size();
  return view.defined() && view.const_data_ptr() == expected && view.scalar_type() == buffer.scalar_type() &&
         view.sizes() == shape && view.is_contiguous();
}

}  // namespace

FlatParameters::FlatParameters(const std::vector<ParameterSpec>& specs, at::Device device,
                               at::ScalarType compute_dtype, ParameterUse use, const Sharding& sharding)
    : use_(use), sharding_(sharding) {
  expect(compute_dtype == at::kBFloat16 || compute_dtype == at::kFloat || compute_dtype == at::kDouble,
         concat("parameters can't compute in ", compute_dtype));
  check_specs(specs);
  const auto master_dtype = master_of(compute_dtype);
  const FlatLayout matrices = lay_out(specs, ParameterKind::matrix, sharding);
  const FlatLayout vectors = lay_out(specs, ParameterKind::vector, sharding);
  matrices_ = allocate(matrices, sharding, device, compute_dtype, master_dtype, use);
  vectors_ = allocate(vectors, sharding, device, master_dtype, master_dtype, use);
  std::vector<int64_t> in_ring(specs.size(), -1);
  if (matrices.ring_size > 0)
    for (const Bucket& bucket : matrices.buckets)
      for (const size_t i : bucket.specs) in_ring[i] = bucket.in_ring + matrices.offsets[i] - bucket.begin;
  for (size_t i = 0; i < specs.size(); ++i) {
    const bool is_matrix = specs[i].kind == ParameterKind::matrix;
    add(specs[i], is_matrix ? matrices_ : vectors_, (is_matrix ? matrices : vectors).offsets[i], in_ring[i]);
  }
  if (use == ParameterUse::inference) return;
  for (const FlatBuffer* buffer : {&matrices_, &vectors_}) add_owned(*buffer);
}

FlatBytes FlatParameters::bytes_needed(const std::vector<ParameterSpec>& specs, at::ScalarType compute_dtype,
                                       ParameterUse use, const Sharding& sharding) {
  const auto master_dtype = master_of(compute_dtype);
  FlatBytes bytes;
  const auto add = [&](ParameterKind kind, at::ScalarType dtype) {
    add_bytes(bytes, lay_out(specs, kind, sharding), sharding, dtype, master_dtype, use);
  };
  add(ParameterKind::matrix, compute_dtype);
  add(ParameterKind::vector, master_dtype);
  return bytes;
}

void FlatParameters::add(const ParameterSpec& spec, const FlatBuffer& buffer, int64_t offset,
                         int64_t in_ring) {
  const at::Tensor compute = buffer.weight_ring.defined() ? view_of(buffer.weight_ring, in_ring, spec.shape)
                                                          : view_of(buffer.compute, offset, spec.shape);
  const at::Tensor weight = compute.detach();  // a leaf: autograd doesn't see that it is a view
  weight.set_requires_grad(use_ == ParameterUse::training);
  const at::Tensor grad =
      in_ring < 0 ? view_of(buffer.grad, offset, spec.shape) : view_of(buffer.grad_ring, in_ring, spec.shape);
  const auto parameter = c10::make_intrusive<Parameter>(spec.name, weight, grad);
  table_.add(parameter);
  places_.push_back({parameter, &buffer, offset, in_ring, spec.shape});

  const int64_t row = c10::multiply_integers(spec.shape) / spec.shape[0];
  for (const LogicalTensor& part : spec.parts) {
    const int64_t begin = offset + part.row_begin * row;
    LogicalView view{part.name, part.init, part.shape, &buffer, begin, {}, {}, {}};
    if (!sharding_.shares_state()) {
      const at::Tensor& stored = use_ == ParameterUse::training ? buffer.master : buffer.compute;
      view.weight = view_of(stored, begin, part.shape);
      view.m = view_of(buffer.m, begin, part.shape);
      view.v = view_of(buffer.v, begin, part.shape);
    }
    logical_.push_back(std::move(view));
    parameter_count_ += c10::multiply_integers(part.shape);
  }
}

void FlatParameters::add_owned(const FlatBuffer& buffer) {
  const bool has_copy = !buffer.compute.is_same(buffer.master), shared_weights = buffer.weight_ring.defined();
  // `at`: where the range lies in the optimizer state.
  const auto range = [&](int64_t begin, int64_t end, bool decayed, int64_t at) {
    if (begin == end) return;
    const int64_t size = end - begin;
    owned_.push_back({&buffer, begin, end, decayed,
                      buffer.master.narrow(0, has_copy || shared_weights ? at : begin, size),
                      buffer.m.narrow(0, at, size), buffer.v.narrow(0, at, size),
                      buffer.grad.narrow(0, buffer.grad_ring.defined() ? at : begin, size),
                      has_copy ? buffer.compute.narrow(0, shared_weights ? at : begin, size) : at::Tensor()});
  };
  if (!sharding_.shares_state()) {
    range(0, buffer.decayed, true, 0);
    range(buffer.decayed, buffer.size, false, buffer.decayed);
    return;
  }
  int64_t held = 0;
  for (const Bucket& bucket : buffer.buckets) {
    const int64_t part = bucket.part(sharding_.ranks);
    const int64_t begin = bucket.begin + sharding_.rank * part;
    range(begin, begin + part, bucket.decayed, held);
    held += part;
  }
}

std::vector<at::Tensor> FlatParameters::owned_grads() const {
  std::vector<at::Tensor> grads;
  const FlatBuffer* buffer = nullptr;
  int64_t begin = 0, end = 0;  // of the last one in its tensor
  for (const OwnedRange& range : owned_) {
    const bool joined = buffer == range.buffer && end == range.grad.storage_offset();
    if (joined)
      grads.pop_back();
    else
      begin = range.grad.storage_offset();
    buffer = range.buffer;
    end = range.grad.storage_offset() + range.grad.numel();
    grads.push_back(buffer->grad.narrow(0, begin, end - begin));
  }
  return grads;
}

void FlatParameters::start_gradients() {
  vectors_.grad.zero_();
  for (const Place& place : places_)
    if (place.buffer == &matrices_) place.parameter->drop_sum();
}

void FlatParameters::complete_gradients() {
  for (const Place& place : places_)
    if (place.in_ring < 0 && !place.parameter->begin_adding()) at::Tensor(place.parameter->grad).zero_();
}

void FlatParameters::complete_gradients(const FlatBuffer& buffer, const Bucket& bucket) {
  for (const size_t i : bucket.specs)
    if (!places_[i].parameter->begin_adding()) at::Tensor(places_[i].parameter->grad).zero_();
  if (!sharding_.shares_state()) return;
  // Reduce-scatters, and other buckets in the same slot, leave something there.
  const at::Tensor gradients = buffer.gradients(bucket);
  for (const auto& [begin, end] : bucket.gaps) gradients.narrow(0, begin, end - begin).zero_();
}

void FlatParameters::drop_gradients(const Bucket& bucket) {
  for (const size_t i : bucket.specs) places_[i].parameter->drop_sum();
}

void FlatParameters::refresh_compute() {
  for (const OwnedRange& range : owned_)
    if (range.compute.defined()) at::Tensor(range.compute).copy_(range.master);
}

void FlatParameters::check_views() const {
  for (const Place& place : places_) {
    const Parameter& p = *place.parameter;
    const at::Tensor& ring = place.buffer->weight_ring;
    expect((ring.defined() ? lies_at(p.weight, ring, place.in_ring, place.shape)
                           : lies_at(p.weight, place.buffer->compute, place.offset, place.shape)) &&
               p.weight.is_leaf(),
           concat("the weight of ", p.name, " is no longer a view of the flat buffer"));
    expect(place.in_ring < 0 ? lies_at(p.grad, place.buffer->grad, place.offset, place.shape)
                             : lies_at(p.grad, place.buffer->grad_ring, place.in_ring, place.shape),
           concat("the gradient of ", p.name, " is no longer a view of the flat buffer"));
  }
}

}  // namespace transxssm
