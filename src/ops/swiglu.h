// The gated activation of the MLP.
#pragma once

#include <ATen/core/Tensor.h>

namespace transxssm::ops {

// packed [..., 2F] = [gate | up] → silu(gate) ⊙ up, [..., F], dtype of packed, computed in f32 (f64 for f64).
// Saves only packed; the product is rebuilt in backward. Differentiable in packed.
at::Tensor swiglu(const at::Tensor& packed);

}  // namespace transxssm::ops
