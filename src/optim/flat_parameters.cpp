#include "optim/flat_parameters.h"

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <numeric>
#include <set>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

namespace transxssm {
namespace {

const std::string kModel = "model/";
const std::string kAdamM = "adam_m/";
const std::string kAdamV = "adam_v/";

int64_t product(at::IntArrayRef shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

// Parts are disjoint row ranges in order, of the parameter's own row shape.
void check_parts(const ParameterSpec& spec) {
  expect(!spec.shape.empty() && product(spec.shape) > 0, concat("parameter ", spec.name, " is empty"));
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

struct Layout {
  std::vector<int64_t> offsets;  // by index of the spec; unused for the other kind
  int64_t decayed = 0;
  int64_t size = 0;
};

// Decayed parameters first. Each starts at a multiple of 256 bytes of the narrowest buffer, bf16.
Layout lay_out(const std::vector<ParameterSpec>& specs, ParameterKind kind) {
  constexpr int64_t kAlignment = 256 / 2;
  Layout layout;
  layout.offsets.resize(specs.size());
  for (const bool decay : {true, false}) {
    for (size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].kind != kind || specs[i].weight_decay != decay) continue;
      layout.offsets[i] = layout.size;
      layout.size += (product(specs[i].shape) + kAlignment - 1) / kAlignment * kAlignment;
    }
    if (decay) layout.decayed = layout.size;
  }
  return layout;
}

FlatBuffer allocate(const Layout& layout, at::Device device, at::ScalarType compute_dtype,
                    at::ScalarType master_dtype, ParameterUse use) {
  const auto zeros = [&](at::ScalarType dtype) {
    return at::zeros({layout.size}, at::TensorOptions(dtype).device(device));
  };
  FlatBuffer buffer;
  buffer.decayed = layout.decayed;
  buffer.compute = zeros(compute_dtype);
  if (use == ParameterUse::inference) return buffer;
  buffer.master = compute_dtype == master_dtype ? buffer.compute : zeros(master_dtype);
  buffer.grad = zeros(master_dtype);
  buffer.m = zeros(master_dtype);
  buffer.v = zeros(master_dtype);
  return buffer;
}

// Of an element in all tensors that allocate() makes.
uint64_t element_bytes(at::ScalarType compute_dtype, at::ScalarType master_dtype, ParameterUse use) {
  const uint64_t compute = c10::elementSize(compute_dtype), master = c10::elementSize(master_dtype);
  if (use == ParameterUse::inference) return compute;
  return (compute_dtype == master_dtype ? 0 : compute) + 4 * master;  // master, grad, m, v
}

at::ScalarType master_of(at::ScalarType compute_dtype) {
  return compute_dtype == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor view_of(const at::Tensor& buffer, int64_t offset, at::IntArrayRef shape) {
  return buffer.defined() ? buffer.narrow(0, offset, product(shape)).view(shape) : at::Tensor();
}

at::Tensor rows_of(const at::Tensor& packed, const LogicalTensor& part) {
  return packed.defined() ? packed.narrow(0, part.row_begin, part.shape[0]) : at::Tensor();
}

bool lies_at(const at::Tensor& view, const at::Tensor& buffer, int64_t offset, at::IntArrayRef shape) {
  if (!buffer.defined()) return !view.defined();
  const auto* expected =
      static_cast<const char*>(buffer.const_data_ptr()) + static_cast<size_t>(offset) * buffer.element_size();
  return view.defined() && view.const_data_ptr() == expected && view.scalar_type() == buffer.scalar_type() &&
         view.sizes() == shape && view.is_contiguous();
}

void expect_fits(const at::Tensor& tensor, const std::string& key, const at::Tensor& like,
                 std::initializer_list<at::ScalarType> dtypes) {
  expect_input(tensor.sizes() == like.sizes(), concat("tensor ", key, " has the shape ", tensor.sizes(),
                                                      ", this model needs ", like.sizes()));
  expect_input(
      std::find(dtypes.begin(), dtypes.end(), tensor.scalar_type()) != dtypes.end(),
      concat("tensor ", key, " has the type ", tensor.scalar_type(), ", expected ", *dtypes.begin()));
}

void expect_present(bool present, const std::string& key) {
  expect_input(present, concat("tensor ", key, " is missing: these are the weights of another model"));
}

void expect_fits(const StateDict& in, const std::string& key, const at::Tensor& like,
                 std::initializer_list<at::ScalarType> dtypes) {
  const auto found = in.tensors.find(key);
  expect_present(found != in.tensors.end(), key);
  expect_fits(found->second, key, like, dtypes);
}

std::vector<std::string> names_below(const StateDict& in, const std::string& prefix) {
  std::vector<std::string> names;
  for (auto entry = in.tensors.lower_bound(prefix);
       entry != in.tensors.end() && entry->first.starts_with(prefix); ++entry)
    names.push_back(entry->first);
  return names;
}

void refuse_unknown(const std::vector<std::string>& names, const std::string& prefix,
                    const std::vector<LogicalView>& logical) {
  std::set<std::string> known;
  for (const LogicalView& tensor : logical) known.insert(prefix + tensor.name);
  for (const std::string& name : names)
    expect_input(known.contains(name),
                 concat("tensor ", name, " has no place here: these are the weights of another model"));
}

}  // namespace

FlatParameters::FlatParameters(const std::vector<ParameterSpec>& specs, at::Device device,
                               at::ScalarType compute_dtype, ParameterUse use)
    : use_(use) {
  expect(compute_dtype == at::kBFloat16 || compute_dtype == at::kFloat || compute_dtype == at::kDouble,
         concat("parameters can't compute in ", compute_dtype));
  check_specs(specs);
  const auto master_dtype = master_of(compute_dtype);
  const Layout matrices = lay_out(specs, ParameterKind::matrix);
  const Layout vectors = lay_out(specs, ParameterKind::vector);
  matrices_ = allocate(matrices, device, compute_dtype, master_dtype, use);
  vectors_ = allocate(vectors, device, master_dtype, master_dtype, use);
  for (size_t i = 0; i < specs.size(); ++i) {
    const bool is_matrix = specs[i].kind == ParameterKind::matrix;
    add(specs[i], is_matrix ? matrices_ : vectors_, (is_matrix ? matrices : vectors).offsets[i]);
  }
}

uint64_t FlatParameters::bytes_needed(const std::vector<ParameterSpec>& specs, at::ScalarType compute_dtype,
                                      ParameterUse use) {
  const auto master_dtype = master_of(compute_dtype);
  const auto size = [&](ParameterKind kind) { return static_cast<uint64_t>(lay_out(specs, kind).size); };
  return size(ParameterKind::matrix) * element_bytes(compute_dtype, master_dtype, use) +
         size(ParameterKind::vector) * element_bytes(master_dtype, master_dtype, use);
}

void FlatParameters::add(const ParameterSpec& spec, const FlatBuffer& buffer, int64_t offset) {
  const at::Tensor compute = view_of(buffer.compute, offset, spec.shape);
  const at::Tensor weight = compute.detach();  // a leaf: autograd doesn't see that it is a view
  weight.set_requires_grad(use_ == ParameterUse::training);
  const auto parameter =
      c10::make_intrusive<Parameter>(spec.name, weight, view_of(buffer.grad, offset, spec.shape));
  table_.add(parameter);
  places_.push_back({parameter, &buffer, offset, spec.shape});

  const at::Tensor stored =
      use_ == ParameterUse::training ? view_of(buffer.master, offset, spec.shape) : compute;
  const at::Tensor m = view_of(buffer.m, offset, spec.shape);
  const at::Tensor v = view_of(buffer.v, offset, spec.shape);
  for (const LogicalTensor& part : spec.parts) {
    logical_.push_back({part.name, part.init, rows_of(stored, part), rows_of(m, part), rows_of(v, part)});
    parameter_count_ += product(part.shape);
  }
}

void FlatParameters::start_gradients() {
  vectors_.grad.zero_();
  for (const Place& place : places_)
    if (place.buffer == &matrices_) place.parameter->drop_sum();
}

void FlatParameters::complete_gradients() {
  for (const Place& place : places_)
    if (!place.parameter->begin_adding()) at::Tensor(place.parameter->grad).zero_();
}

void FlatParameters::refresh_compute() {
  if (use_ == ParameterUse::training && !matrices_.compute.is_same(matrices_.master))
    matrices_.compute.copy_(matrices_.master);
}

void FlatParameters::check_views() const {
  for (const Place& place : places_) {
    const Parameter& p = *place.parameter;
    expect(lies_at(p.weight, place.buffer->compute, place.offset, place.shape) && p.weight.is_leaf(),
           concat("the weight of ", p.name, " is no longer a view of the flat buffer"));
    expect(lies_at(p.grad, place.buffer->grad, place.offset, place.shape),
           concat("the gradient of ", p.name, " is no longer a view of the flat buffer"));
  }
}

void FlatParameters::save_state(StateDict& out) const {
  expect(use_ == ParameterUse::training, "parameters made for inference have no state to save");
  for (const LogicalView& tensor : logical_) {
    out.tensors[kModel + tensor.name] = tensor.weight;
    out.tensors[kAdamM + tensor.name] = tensor.m;
    out.tensors[kAdamV + tensor.name] = tensor.v;
  }
}

void FlatParameters::load_state(const StateDict& in) {
  expect(use_ == ParameterUse::training, "parameters made for inference load weights only");
  for (const auto& prefix : {kModel, kAdamM, kAdamV})
    refuse_unknown(names_below(in, prefix), prefix, logical_);
  const auto dtype = matrices_.master.scalar_type();
  for (const LogicalView& tensor : logical_)
    for (const auto& prefix : {kModel, kAdamM, kAdamV})
      expect_fits(in, prefix + tensor.name, tensor.weight, {dtype});

  const at::NoGradGuard no_grad;
  zero();
  for (const LogicalView& tensor : logical_) {
    tensor.weight.copy_(in.tensors.at(kModel + tensor.name));
    tensor.m.copy_(in.tensors.at(kAdamM + tensor.name));
    tensor.v.copy_(in.tensors.at(kAdamV + tensor.name));
  }
  refresh_compute();
}

void FlatParameters::load_weights(const StateDict& in) {
  for (const LogicalView& tensor : logical_)
    expect_fits(in, kModel + tensor.name, tensor.weight, {at::kFloat, at::kBFloat16});
  load_weights(names_below(in, kModel), [&](const std::string& name) { return in.tensors.at(name); });
}

void FlatParameters::load_weights(const std::vector<std::string>& names,
                                  const std::function<at::Tensor(const std::string&)>& read) {
  refuse_unknown(names, kModel, logical_);
  const std::set<std::string> present(names.begin(), names.end());
  for (const LogicalView& tensor : logical_)
    expect_present(present.contains(kModel + tensor.name), kModel + tensor.name);

  const at::NoGradGuard no_grad;
  zero();
  for (const LogicalView& tensor : logical_) {
    const at::Tensor weight = read(kModel + tensor.name);
    expect_fits(weight, kModel + tensor.name, tensor.weight, {at::kFloat, at::kBFloat16});
    tensor.weight.copy_(weight);
  }
  refresh_compute();
}

void FlatParameters::zero() {
  for (const FlatBuffer* buffer : {&matrices_, &vectors_})
    for (const at::Tensor& tensor : {buffer->compute, buffer->master, buffer->grad, buffer->m, buffer->v})
      if (tensor.defined()) tensor.zero_();
}

}  // namespace transxssm
