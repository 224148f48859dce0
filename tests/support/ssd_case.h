// Inputs for tests of the SSD scan: one struct that runs the operator and its token-by-token twin.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include <ATen/ops/arange.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/tensor.h>

#include "ops/ssd.h"
#include "support/compare.h"
#include "support/gradcheck.h"
#include "support/ssd_sequential.h"

namespace transxssm {

// Angles position · base^(−2k/width), f64.
inline ops::RopeTable f64_rope(int64_t positions, int64_t width, double base = 100) {
  const auto f64 = at::TensorOptions(at::kDouble);
  const at::Tensor k = at::arange(width / 2, f64);
  const at::Tensor angles = at::outer(at::arange(positions, f64), at::pow(base, k * (-2.0 / width)));
  return {angles.cos(), angles.sin()};
}

// Documents of one or more rows from the starts inside each row (0 is implied); `spare` empty documents at
// the end.
inline ops::Documents documents_at(const std::vector<std::vector<int64_t>>& starts, int64_t seq_len,
                                   int spare = 2) {
  std::vector<int32_t> offsets;
  for (size_t row = 0; row < starts.size(); ++row) {
    const auto begin = static_cast<int64_t>(row) * seq_len;
    offsets.push_back(static_cast<int32_t>(begin));
    for (const int64_t start : starts[row])
      if (start > 0 && start < seq_len) offsets.push_back(static_cast<int32_t>(begin + start));
  }
  const auto batch = static_cast<int64_t>(starts.size());
  offsets.resize(offsets.size() + 1 + static_cast<size_t>(spare), static_cast<int32_t>(batch * seq_len));
  return ops::make_documents(at::tensor(offsets, at::TensorOptions(at::kInt)), batch, seq_len);
}

struct SsdCase {
  ops::SsdDims dims;
  at::Tensor packed;
  ParameterPtr a_log, dt_bias, d_skip;
  std::optional<ops::RopeTable> rope;
  ops::Documents documents;
  std::optional<at::Tensor> initial_state;

  const ops::RopeTable* rope_table() const { return rope ? &*rope : nullptr; }
  ops::SsdResult run() const {
    return ops::ssd(dims, packed, a_log, dt_bias, d_skip, rope_table(), documents, initial_state);
  }
  ops::SsdResult sequential() const {
    return ssd_sequential(dims, packed, a_log, dt_bias, d_skip, rope_table(), documents, initial_state);
  }
  std::vector<ParameterPtr> parameters() const {
    return d_skip ? std::vector{a_log, dt_bias, d_skip} : std::vector{a_log, dt_bias};
  }
};

// f64 case with random inputs; Δ between about 0.05 and 2, |A| between about 0.3 and 3.
inline SsdCase f64_ssd_case(const ops::SsdDims& dims, const ops::Documents& documents, uint64_t seed = 1) {
  SsdCase c;
  c.dims = dims;
  c.documents = documents;
  c.packed = f64_tensor({documents.batch, documents.seq_len, ops::ssd_packed_columns(dims)}, seed);
  c.a_log = f64_parameter("a_log", {dims.num_heads}, seed + 1, 0.5);
  c.dt_bias = f64_parameter("dt_bias", {dims.num_heads}, seed + 2, 0.5);
  return c;
}

// The same numbers in another dtype and place: parameters and states in the type that dtype accumulates in.
inline SsdCase converted(const SsdCase& from, at::ScalarType dtype, at::Device device = at::kCPU) {
  const at::ScalarType acc = dtype == at::kDouble ? at::kDouble : at::kFloat;
  const auto parameter = [&](const ParameterPtr& p) {
    if (!p) return ParameterPtr();
    at::Tensor weight = p->weight.detach().to(device, acc, false, /*copy=*/true).set_requires_grad(true);
    return c10::make_intrusive<Parameter>(p->name, weight, at::zeros_like(weight.detach()));
  };
  SsdCase to = from;
  to.packed = from.packed.detach().to(device, dtype);
  to.a_log = parameter(from.a_log);
  to.dt_bias = parameter(from.dt_bias);
  to.d_skip = parameter(from.d_skip);
  if (from.rope) to.rope = ops::RopeTable{from.rope->cos.to(device, acc), from.rope->sin.to(device, acc)};
  if (from.initial_state) to.initial_state = from.initial_state->detach().to(device, acc);
  ops::Documents& d = to.documents;
  d.offsets = d.offsets.to(device);
  d.ids = d.ids.to(device);
  d.positions = d.positions.to(device);
  return to;
}

// Results and gradients under fixed random output gradients.
struct SsdOutcome {
  std::vector<std::pair<std::string, at::Tensor>> tensors;

  const at::Tensor& operator[](const std::string& name) const {
    for (const auto& [key, tensor] : tensors)
      if (key == name) return tensor;
    throw std::out_of_range(name);
  }
};

// `sequential`: by the twin, through autograd. dy, dfinal: cotangents, f64; undefined for none.
inline SsdOutcome ssd_outcome(SsdCase c, const at::Tensor& dy, const at::Tensor& dfinal,
                              bool sequential = false) {
  c.packed = c.packed.detach().requires_grad_(true);
  if (c.initial_state) c.initial_state = c.initial_state->detach().requires_grad_(true);
  for (const ParameterPtr& p : c.parameters()) {
    p->grad.zero_();
    if (p->weight.grad().defined()) p->weight.mutable_grad().reset();
  }
  const ops::SsdResult out = sequential ? c.sequential() : c.run();
  at::Tensor objective = at::zeros({}, out.final_state_bhpn.options());
  if (dy.defined()) objective = objective + (out.y_btw.to(objective.scalar_type()) * dy.to(objective)).sum();
  if (dfinal.defined()) objective = objective + (out.final_state_bhpn * dfinal.to(objective)).sum();
  objective.backward();

  SsdOutcome outcome;
  outcome.tensors = {{"y", out.y_btw.detach()},
                     {"final state", out.final_state_bhpn.detach()},
                     {"d packed", c.packed.grad()}};
  for (const ParameterPtr& p : c.parameters()) {
    const at::Tensor grad = sequential ? p->weight.grad() : p->grad;
    outcome.tensors.emplace_back("d " + p->name, grad.clone());
  }
  if (c.initial_state) outcome.tensors.emplace_back("d initial state", c.initial_state->grad());
  return outcome;
}

// Cotangents of y and the final state.
inline std::pair<at::Tensor, at::Tensor> ssd_cotangents(const SsdCase& c, uint64_t seed = 77) {
  const ops::Documents& docs = c.documents;
  const ops::SsdDims& d = c.dims;
  return {f64_tensor({docs.batch, docs.seq_len, d.num_heads * d.head_dim}, seed),
          f64_tensor({docs.batch, d.num_heads, d.head_dim, d.state_dim}, seed + 1)};
}

// Largest difference over the largest value.
inline double relative_error(const at::Tensor& actual, const at::Tensor& exact) {
  const double scale = max_abs(exact);
  return max_abs_diff(actual, exact) / (scale > 0 ? scale : 1);
}

inline void require_same_outcome(const SsdOutcome& actual, const SsdOutcome& exact, double tolerance) {
  REQUIRE(actual.tensors.size() == exact.tensors.size());
  for (const auto& [name, tensor] : exact.tensors) {
    INFO(name);
    REQUIRE(relative_error(actual[name], tensor) <= tolerance);
  }
}

}  // namespace transxssm
