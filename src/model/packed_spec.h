// Builds the description of a parameter whose rows are several logical tensors: projections that share an
// input are one matrix product.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/parameter.h"

namespace transxssm {

// Rows of a packed projection are padded to a multiple of this, so that every row of its bf16 output starts
// at a 16-byte boundary (what the GPU's bulk copies need).
inline constexpr int64_t kPackedRowAlignment = 8;

// A parameter that is one logical tensor.
inline ParameterSpec single_spec(std::string name, ParameterKind kind, std::vector<int64_t> shape,
                                 bool weight_decay, Init init) {
  LogicalTensor part{name, shape, 0, init};
  return {std::move(name), kind, std::move(shape), weight_decay, {std::move(part)}};
}

inline ParameterSpec vector_spec(std::string name, std::vector<int64_t> shape, Init init) {
  return single_spec(std::move(name), ParameterKind::vector, std::move(shape), false, init);
}

// A matrix [rows, columns] filled part by part.
class PackedSpec {
 public:
  PackedSpec(std::string name, int64_t columns)
      : spec_{std::move(name), ParameterKind::matrix, {0, columns}, true, {}} {}

  PackedSpec& rows(std::string name, int64_t count, Init init) {
    spec_.parts.push_back({std::move(name), {count, spec_.shape[1]}, spec_.shape[0], init});
    spec_.shape[0] += count;
    return *this;
  }
  PackedSpec& pad() {
    spec_.shape[0] = (spec_.shape[0] + kPackedRowAlignment - 1) / kPackedRowAlignment * kPackedRowAlignment;
    return *this;
  }
  ParameterSpec done() { return std::move(spec_); }

 private:
  ParameterSpec spec_;
};

inline Init normal_init(double std) { return {Init::Kind::normal, std, 0}; }
inline Init constant_init(double value) { return {Init::Kind::constant, value, 0}; }

}  // namespace transxssm
