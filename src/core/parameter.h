// What a parameter is: how a module asks for it (ParameterSpec) and what operators get (Parameter).
//
// Modules describe their parameters, optim/flat_parameters allocates them in flat buffers, and operators read
// `weight` and add to `grad`. Nobody else owns storage. Include this only where LibTorch is linked.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include "core/check.h"

namespace transxssm {

// Matrices have a bf16 copy for compute and an fp32 master; vectors (norms, residual scales, A_log, dt_bias,
// D, convolution weights) are fp32 only: bf16 is too coarse near 1.
enum class ParameterKind { matrix, vector };

// How initial values are drawn; each depends only on (seed, logical name, index).
struct Init {
  enum class Kind {
    constant,      // a
    normal,        // N(0, a²), truncated at 3a
    uniform,       // U(a, b)
    log_uniform,   // log U(a, b): A_log with A uniform in [a, b]
    inv_softplus,  // softplus⁻¹(Δ) with Δ log-uniform in [a, b]: dt_bias
  };
  Kind kind = Kind::constant;
  double a = 0;
  double b = 0;
};

// One tensor as checkpoints and exports name it: rows [row_begin, row_begin + shape[0]) of a packed
// parameter. Rows that belong to no logical tensor are padding: always zero, never counted, decayed, normed
// or saved.
struct LogicalTensor {
  std::string name;
  std::vector<int64_t> shape;
  int64_t row_begin = 0;
  Init init;
};

struct ParameterSpec {
  std::string name;
  ParameterKind kind = ParameterKind::matrix;
  std::vector<int64_t> shape;  // packed, padding rows included
  bool weight_decay = false;
  std::vector<LogicalTensor> parts;
};

// A parameter as operators see it. `weight` is a view of a flat buffer in compute dtype and a leaf of the
// autograd graph; operators add the gradient straight into `grad` (fp32, or fp64 in gradient checks) and
// return an undefined gradient for `weight`. `grad` is undefined when the model was built for inference.
// Operators keep the pointer to the Parameter for backward, never the weight tensor.
class Parameter : public torch::CustomClassHolder {
 public:
  Parameter(std::string parameter_name, at::Tensor parameter_weight, at::Tensor parameter_grad)
      : name(std::move(parameter_name)),
        weight(std::move(parameter_weight)),
        grad(std::move(parameter_grad)) {}
  const std::string name;
  const at::Tensor weight;
  const at::Tensor grad;

  // Whether `grad` holds a sum to add to. If not, what lies there means nothing and the first operator to
  // write replaces it, which spares a pass of zeros and a read (FlatParameters::start_gradients).
  bool has_sum() const { return has_sum_; }
  void drop_sum() { has_sum_ = false; }

  // For an operator that is about to write `grad`: has_sum(), true from here on.
  bool begin_adding() { return std::exchange(has_sum_, true); }

 private:
  bool has_sum_ = true;
};
using ParameterPtr = c10::intrusive_ptr<Parameter>;

// All parameters of a model by packed name.
class ParameterTable {
 public:
  void add(ParameterPtr parameter) { by_name_.emplace(parameter->name, std::move(parameter)); }
  const ParameterPtr& at(const std::string& name) const {
    const auto found = by_name_.find(name);
    expect(found != by_name_.end(), "no parameter named " + name);
    return found->second;
  }
  const std::map<std::string, ParameterPtr>& all() const { return by_name_; }

 private:
  std::map<std::string, ParameterPtr> by_name_;
};

}  // namespace transxssm
