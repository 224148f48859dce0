// The gated activation of the MLP.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/parameter.h"

namespace transxssm::ops {

// packed [..., 2F] = [gate | up] → silu(gate) ⊙ up, [..., F], dtype of packed, computed in f32 (f64 for f64).
// Saves only packed; the product is rebuilt in backward. Differentiable in packed. CUDA: kernels for bf16
// with F a multiple of 8, ATen for the rest.
at::Tensor swiglu(const at::Tensor& packed);

// linear(swiglu(packed), w): the same values and gradients, but packed is all that is kept for backward,
// where the activation's kernel writes the product once more for the gradient of w [O, F].
at::Tensor swiglu_linear(const at::Tensor& packed, const ParameterPtr& w);

}  // namespace transxssm::ops
