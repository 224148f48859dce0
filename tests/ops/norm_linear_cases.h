// The residual, norm and product in one operator: literal formula and arguments, shared by the CPU and CUDA
// tests.
#pragma once

#include "norm_cases.h"
#include "ops/linear.h"
#include "ops/norm_linear.h"

namespace transxssm {

enum class Sum { scaled, plain, none };  // r ⊙ x + branch, x + branch, x

inline ops::Residual residual_of(const Tensors& x, const std::vector<ParameterPtr>& p) {
  return {x[0], x.size() > 1 ? x[1] : at::Tensor(), p.size() > 2 ? p[2] : ParameterPtr()};
}

// Both results carry a gradient, as in a block.
inline OpCase norm_linear_case(int64_t rows, int64_t width, int64_t out, Sum kind, ops::NormedInput normed) {
  OpCase c{concat("residual_norm_linear ", rows, "x", width, " -> ", out),
           [=](const Tensors& x, const std::vector<ParameterPtr>& p) {
             const auto [sum, y] = ops::residual_norm_linear(residual_of(x, p), p[0], kNormEps, p[1], normed);
             return Tensors{sum, y};
           },
           [](const Tensors& x, const Tensors& w) {
             at::Tensor sum = w.size() > 2 ? x[0] * w[2] : x[0];
             if (x.size() > 1) sum = sum + x[1];
             return Tensors{sum, literal_rms_norm(sum, w[0]).matmul(w[1].t())};
           },
           {f64_tensor({2, rows, width}, 1)},
           {f64_parameter("norm", {width}, 3), f64_parameter("projection", {out, width}, 4)}};
  if (kind != Sum::none) c.inputs.push_back(f64_tensor({2, rows, width}, 2));
  if (kind == Sum::scaled) c.parameters.push_back(f64_parameter("r", {width}, 5));
  return c;
}

// The same by residual_rms_norm (rms_norm without a branch) and linear.
inline OpCase norm_then_linear(OpCase c) {
  c.op = [](const Tensors& x, const std::vector<ParameterPtr>& p) {
    const ops::Residual in = residual_of(x, p);
    const auto [sum, u] = in.branch.defined() ? ops::residual_rms_norm(in.x, in.branch, in.r, p[0], kNormEps)
                                              : std::pair(in.x, ops::rms_norm(in.x, p[0], kNormEps));
    return Tensors{sum, ops::linear(u, p[1])};
  };
  return c;
}

}  // namespace transxssm
