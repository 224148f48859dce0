// Matrix product with a parameter.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/parameter.h"

namespace transxssm::ops {

// y = x Wᵀ. x [..., I], W [O, I] in the same dtype, y [..., O]. Accumulation in f32 (f64 for f64).
// Backward: dx = dy W; dW = dyᵀ x is added to w->grad in f32, on CUDA by the product itself.
at::Tensor linear(const at::Tensor& x, const ParameterPtr& w);

// The other gradient of that product, dx = dy W. dy [..., O], dx [..., I] in W's dtype.
at::Tensor input_gradient(const at::Tensor& dy, const ParameterPtr& w);

// [..., D] as rows [N, D]: a view where the strides allow one.
inline at::Tensor as_rows(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

// The products themselves, without autograd, written straight into rows of the caller's: y = x Wᵀ and
// dx = dy W. x, dx [rows, I], W [O, I], y, dy [rows, O]. CUDA bf16: ops/gemm.h; else ATen.
void multiply_into(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight);
void input_gradient_into(const at::Tensor& dx, const at::Tensor& dy, const at::Tensor& weight);

// The gradient step of every product with a parameter: w->grad += dyᵀ x in grad's dtype, without rounding the
// product to that of dy and x; = where the parameter has no sum yet. dy [rows, O], x [rows, I], grad [O, I]
// f32 (f64).
void add_weight_gradient(const ParameterPtr& w, const at::Tensor& dy, const at::Tensor& x);

}  // namespace transxssm::ops
