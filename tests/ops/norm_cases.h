// The RMSNorm operators and SwiGLU: literal formulas and arguments, shared by the CPU and CUDA tests.
#pragma once

#include "ops/rms_norm.h"
#include "ops/swiglu.h"
#include "support/op_case.h"

namespace transxssm {

constexpr double kNormEps = 1e-5;

inline at::Tensor literal_rms_norm(const at::Tensor& x, const at::Tensor& w) {
  return x * (x.square().mean(-1, true) + kNormEps).rsqrt() * w;
}

inline at::Tensor literal_silu(const at::Tensor& x) { return x * x.sigmoid(); }

inline OpCase rms_norm_case(int64_t rows, int64_t width) {
  return {concat("rms_norm ", rows, "x", width),
          [](const Tensors& x, const std::vector<ParameterPtr>& p) {
            return Tensors{ops::rms_norm(x[0], p[0], kNormEps)};
          },
          [](const Tensors& x, const Tensors& w) { return Tensors{literal_rms_norm(x[0], w[0])}; },
          {f64_tensor({2, rows, width}, 1, 3.0)},
          {f64_parameter("weight", {width}, 2)}};
}

// Both results carry a gradient, as in a block. Without `scaled`, r is null.
inline OpCase residual_case(int64_t rows, int64_t width, bool scaled) {
  OpCase c{concat("residual_rms_norm ", rows, "x", width, scaled ? "" : " plain"),
           [](const Tensors& x, const std::vector<ParameterPtr>& p) {
             const auto [sum, u] =
                 ops::residual_rms_norm(x[0], x[1], p.size() > 1 ? p[1] : ParameterPtr(), p[0], kNormEps);
             return Tensors{sum, u};
           },
           [](const Tensors& x, const Tensors& w) {
             const at::Tensor sum = (w.size() > 1 ? x[0] * w[1] : x[0]) + x[1];
             return Tensors{sum, literal_rms_norm(sum, w[0])};
           },
           {f64_tensor({2, rows, width}, 1), f64_tensor({2, rows, width}, 2)},
           {f64_parameter("weight", {width}, 3)}};
  if (scaled) c.parameters.push_back(f64_parameter("r", {width}, 4));
  return c;
}

// z is a strided view of a packed tensor.
inline OpCase gated_case(int64_t rows, int64_t width) {
  const auto gate = [](const at::Tensor& packed) { return packed.narrow(-1, 1, packed.size(-1) - 2); };
  return {concat("gated_rms_norm ", rows, "x", width),
          [=](const Tensors& x, const std::vector<ParameterPtr>& p) {
            return Tensors{ops::gated_rms_norm(x[0], gate(x[1]), p[0], kNormEps)};
          },
          [=](const Tensors& x, const Tensors& w) {
            return Tensors{literal_rms_norm(x[0] * literal_silu(gate(x[1])), w[0])};
          },
          {f64_tensor({2, rows, width}, 1), f64_tensor({2, rows, width + 2}, 2)},
          {f64_parameter("weight", {width}, 3)}};
}

inline OpCase swiglu_case(int64_t rows, int64_t width) {
  return {concat("swiglu ", rows, "x", width),
          [](const Tensors& x, const std::vector<ParameterPtr>&) { return Tensors{ops::swiglu(x[0])}; },
          [](const Tensors& x, const Tensors&) {
            const auto halves = x[0].chunk(2, -1);
            return Tensors{literal_silu(halves[0]) * halves[1]};
          },
          {f64_tensor({2, rows, 2 * width}, 1, 2.0)},
          {}};
}

inline OpCase swiglu_linear_case(int64_t rows, int64_t width, int64_t out) {
  return {concat("swiglu_linear ", rows, "x", width, " -> ", out),
          [](const Tensors& x, const std::vector<ParameterPtr>& w) {
            return Tensors{ops::swiglu_linear(x[0], w[0])};
          },
          [](const Tensors& x, const Tensors& w) {
            const auto halves = x[0].chunk(2, -1);
            return Tensors{(literal_silu(halves[0]) * halves[1]).matmul(w[0].t())};
          },
          {f64_tensor({2, rows, 2 * width}, 1, 2.0)},
          {f64_parameter("weight", {out, width}, 2)}};
}

}  // namespace transxssm
