// The residual, norm and product in one operator: literal formula and arguments, shared by the CPU and CUDA
// tests.
#pragma once

#include "norm_cases.h"
#include "ops/linear.h"
#include "ops/norm_linear.h"

namespace transxssm {

// r ⊙ x + branch, x + branch, x: of a block in the middle, of one with plain residuals, and of the first.
enum class Sum { scaled, plain, none };

inline ParameterPtr scale_out(const std::vector<ParameterPtr>& p) { return p.size() > 2 ? p[2] : nullptr; }

// Both results carry a gradient, as in a block.
inline OpCase norm_linear_case(int64_t rows, int64_t width, int64_t out, Sum kind, ops::NormedInput normed) {
  OpCase c{concat("residual_norm_linear ", rows, "x", width, " -> ", out),
           [=](const Tensors& x, const std::vector<ParameterPtr>& p) {
             const auto [sum, y] = ops::residual_norm_linear(residual_of(x, kind == Sum::scaled), p[0],
                                                             kNormEps, scale_out(p), p[1], normed);
             return Tensors{ValueOf::apply(sum.x, sum.r), y};
           },
           [=](const Tensors& x, const Tensors& w) {
             const at::Tensor sum = literal_sum(x, kind == Sum::scaled);
             return Tensors{w.size() > 2 ? sum * w[2] : sum, literal_rms_norm(sum, w[0]).matmul(w[1].t())};
           },
           {f64_tensor({2, rows, width}, 1)},
           {f64_parameter("norm", {width}, 3), f64_parameter("projection", {out, width}, 4)}};
  if (kind != Sum::none) c.inputs.push_back(f64_tensor({2, rows, width}, 2));
  if (kind != Sum::plain) c.parameters.push_back(f64_parameter("r_out", {width}, 5));
  return c;
}

// The same by two operators.
inline OpCase norm_then_linear(OpCase c, Sum kind) {
  c.op = [=](const Tensors& x, const std::vector<ParameterPtr>& p) {
    const auto [sum, u] =
        ops::residual_rms_norm(residual_of(x, kind == Sum::scaled), p[0], kNormEps, scale_out(p));
    return Tensors{ValueOf::apply(sum.x, sum.r), ops::linear(u, p[1])};
  };
  return c;
}

}  // namespace transxssm
