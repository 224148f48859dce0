// The RMSNorm operators and SwiGLU: literal formulas and arguments, shared by the CPU and CUDA tests.
#pragma once

#include <torch/csrc/autograd/custom_function.h>

#include "ops/parameter_handle.h"
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

// The scale of a stream that comes in: a constant, since its gradient is the affair of whoever made the
// stream.
inline ParameterPtr scale_in(const at::Tensor& x) {
  const auto dtype = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return c10::make_intrusive<Parameter>("r", f64_tensor({x.size(-1)}, 4).to(x.device(), dtype), at::Tensor());
}

// From a plain tensor to a stream and back: ops/rms_norm.h says which gradient a stream carries.
struct StreamOf : torch::autograd::Function<StreamOf> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const ParameterPtr& r) {
    ctx->saved_data["r"] = ops::to_handle(r);
    return x.clone();
  }
  static Tensors backward(torch::autograd::AutogradContext* ctx, const Tensors& grads) {
    const ParameterPtr r = ops::from_handle(ctx->saved_data["r"]);
    return {r ? (grads[0] * r->weight).to(grads[0].scalar_type()) : grads[0], {}};
  }
};

struct ValueOf : torch::autograd::Function<ValueOf> {
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x, const ParameterPtr& r) {
    return (r ? x * r->weight : x.clone()).to(x.scalar_type());
  }
  static Tensors backward(torch::autograd::AutogradContext*, const Tensors& grads) { return {grads[0], {}}; }
};

inline ops::Residual residual_of(const Tensors& x, bool scaled) {
  const ParameterPtr r = scaled ? scale_in(x[0]) : ParameterPtr();
  return {{StreamOf::apply(x[0], r), r}, x.size() > 1 ? x[1] : at::Tensor()};
}

inline at::Tensor literal_sum(const Tensors& x, bool scaled) {
  const at::Tensor first = scaled ? x[0] * scale_in(x[0])->weight.to(x[0].scalar_type()) : x[0];
  return x.size() > 1 ? first + x[1] : first;
}

// Both results carry a gradient, as in a block. Without `scaled`, the stream is not, on neither side.
inline OpCase residual_case(int64_t rows, int64_t width, bool scaled) {
  OpCase c{concat("residual_rms_norm ", rows, "x", width, scaled ? "" : " plain"),
           [=](const Tensors& x, const std::vector<ParameterPtr>& p) {
             const ParameterPtr r_out = scaled ? p[1] : nullptr;
             const auto [sum, u] = ops::residual_rms_norm(residual_of(x, scaled), p[0], kNormEps, r_out);
             return Tensors{ValueOf::apply(sum.x, sum.r), u};
           },
           [=](const Tensors& x, const Tensors& w) {
             const at::Tensor sum = literal_sum(x, scaled);
             return Tensors{scaled ? sum * w[1] : sum, literal_rms_norm(sum, w[0])};
           },
           {f64_tensor({2, rows, width}, 1), f64_tensor({2, rows, width}, 2)},
           {f64_parameter("weight", {width}, 3)}};
  if (scaled) c.parameters.push_back(f64_parameter("r_out", {width}, 5));
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
