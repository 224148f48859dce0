// Saving and loading of flat parameters: by logical name, each rank its own part.
#include <algorithm>
#include <functional>
#include <initializer_list>
#include <set>

#include <ATen/core/grad_mode.h>
#include <c10/util/accumulate.h>

#include "optim/flat_parameters.h"

namespace transxssm {
namespace {

const std::string kModel = "model/";
const std::string kAdamM = "adam_m/";
const std::string kAdamV = "adam_v/";

void expect_fits(const std::string& key, at::ScalarType type, at::IntArrayRef shape, at::IntArrayRef needed,
                 std::initializer_list<at::ScalarType> dtypes) {
  expect_input(shape == needed,
               concat("tensor ", key, " has the shape ", shape, ", this model needs ", needed));
  expect_input(std::find(dtypes.begin(), dtypes.end(), type) != dtypes.end(),
               concat("tensor ", key, " has the type ", type, ", expected ", *dtypes.begin()));
}

void expect_present(bool present, const std::string& key) {
  expect_input(present, concat("tensor ", key, " is missing: these are the weights of another model"));
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

void FlatParameters::write(const LogicalView& tensor, StatePart part, const at::Tensor& values,
                           int64_t first) {
  const at::NoGradGuard no_grad;
  const at::Tensor here = values.to(device());
  const int64_t begin = tensor.offset + first, end = begin + here.numel();
  const bool shared_weights = tensor.buffer->weight_ring.defined();
  if (part == StatePart::weight && !shared_weights) {
    tensor.buffer->compute.narrow(0, begin, end - begin).copy_(here);
    if (tensor.buffer->compute.is_same(tensor.buffer->master)) return;
  }
  for (const OwnedRange& range : owned_) {
    const int64_t from = std::max(begin, range.begin), to = std::min(end, range.end);
    if (range.buffer != tensor.buffer || from >= to) continue;
    const at::Tensor& held = part == StatePart::weight ? range.master
                             : part == StatePart::m    ? range.m
                                                       : range.v;
    const at::Tensor values_of_range = here.narrow(0, from - begin, to - from);
    held.narrow(0, from - range.begin, to - from).copy_(values_of_range);
    if (part == StatePart::weight && shared_weights && range.compute.defined())
      range.compute.narrow(0, from - range.begin, to - from).copy_(values_of_range);
  }
}

void FlatParameters::save_state(StateDict& out) const {
  expect(use_ == ParameterUse::training, "parameters made for inference have no state to save");
  for (const LogicalView& tensor : logical_) {
    const ElementRange own = own_part(tensor);
    if (own.count == 0) continue;
    const int64_t begin = tensor.offset + own.first;
    const OwnedRange& range = *std::find_if(owned_.begin(), owned_.end(), [&](const OwnedRange& candidate) {
      return candidate.buffer == tensor.buffer && candidate.begin <= begin && begin < candidate.end;
    });
    const auto save = [&](const std::string& key, const at::Tensor& held) {
      const at::Tensor flat = held.narrow(0, begin - range.begin, own.count);
      const bool whole = own.count == c10::multiply_integers(tensor.shape);
      out.tensors[key] = whole ? flat.view(tensor.shape) : flat;
      if (!whole) out.parts[key] = {tensor.shape, own.first};
    };
    save(kModel + tensor.name, range.master);
    save(kAdamM + tensor.name, range.m);
    save(kAdamV + tensor.name, range.v);
  }
}

ElementRange FlatParameters::own_part(const LogicalView& tensor) const {
  const auto& buckets = tensor.buffer->buckets;
  const auto bucket = std::find_if(buckets.begin(), buckets.end(),
                                   [&](const Bucket& candidate) { return tensor.offset < candidate.end; });
  const int64_t part = bucket->part(sharding_.ranks), part_begin = bucket->begin + sharding_.rank * part;
  const int64_t begin = std::max(tensor.offset, part_begin);
  const int64_t end = std::min(tensor.offset + c10::multiply_integers(tensor.shape), part_begin + part);
  return begin < end ? ElementRange{begin - tensor.offset, end - begin} : ElementRange{};
}

std::optional<ElementRange> FlatParameters::own_part(const std::string& name) const {
  for (const LogicalView& tensor : logical_)
    if (name == kModel + tensor.name || name == kAdamM + tensor.name || name == kAdamV + tensor.name)
      return own_part(tensor);
  return std::nullopt;
}

void FlatParameters::load_state(const StateDict& in) {
  expect(use_ == ParameterUse::training, "parameters made for inference load weights only");
  for (const auto& prefix : {kModel, kAdamM, kAdamV})
    refuse_unknown(names_below(in, prefix), prefix, logical_);
  for (const auto& prefix : {kModel, kAdamM, kAdamV})
    expect_logical_shapes(in, prefix, {matrices_.master.scalar_type()});

  zero();
  for (const LogicalView& tensor : logical_) {
    const auto load = [&](const std::string& key, StatePart part) {
      const auto found = in.parts.find(key);
      write(tensor, part, in.tensors.at(key).reshape(-1), found == in.parts.end() ? 0 : found->second.first);
    };
    load(kModel + tensor.name, StatePart::weight);
    load(kAdamM + tensor.name, StatePart::m);
    load(kAdamV + tensor.name, StatePart::v);
  }
}

void FlatParameters::load_weights(const StateDict& in) {
  expect_logical_shapes(in, kModel, {at::kFloat, at::kBFloat16});
  load_weights(names_below(in, kModel), [&](const std::string& name) { return in.tensors.at(name); });
}

void FlatParameters::load_weights(const std::vector<std::string>& names,
                                  const std::function<at::Tensor(const std::string&)>& read) {
  refuse_unknown(names, kModel, logical_);
  const std::set<std::string> present(names.begin(), names.end());
  for (const LogicalView& tensor : logical_)
    expect_present(present.contains(kModel + tensor.name), kModel + tensor.name);

  zero();
  for (const LogicalView& tensor : logical_) {
    const at::Tensor weight = read(kModel + tensor.name);
    expect_fits(kModel + tensor.name, weight.scalar_type(), weight.sizes(), tensor.shape,
                {at::kFloat, at::kBFloat16});
    write(tensor, StatePart::weight, weight.reshape(-1));
  }
}

void FlatParameters::expect_logical_shapes(const StateDict& in, const std::string& prefix,
                                           std::initializer_list<at::ScalarType> dtypes) const {
  for (const LogicalView& tensor : logical_) {
    const std::string key = prefix + tensor.name;
    const auto found = in.tensors.find(key);
    expect_present(found != in.tensors.end(), key);
    const auto part = in.parts.find(key);
    expect_fits(key, found->second.scalar_type(),
                part == in.parts.end() ? found->second.sizes() : at::IntArrayRef(part->second.shape),
                tensor.shape, dtypes);
    const ElementRange own = own_part(tensor);
    expect(part == in.parts.end() || own.count == 0 ||
               (part->second.first <= own.first &&
                own.first + own.count <= part->second.first + found->second.numel()),
           concat("of tensor ", key, " a part is missing that this rank loads"));
  }
}

void FlatParameters::zero() {
  for (const FlatBuffer* buffer : {&matrices_, &vectors_})
    for (const at::Tensor& tensor : {buffer->compute, buffer->master, buffer->grad, buffer->m, buffer->v})
      if (tensor.defined()) tensor.zero_();
}

}  // namespace transxssm
