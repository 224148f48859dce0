// SwiGLU on the CPU in two passes (ATen's sigmoid, then everything else) instead of ATen's seven.
#pragma once

#include <ATen/core/Tensor.h>

namespace transxssm::ops {

// packed [rows, 2F] f32|f64, last dimension contiguous → [rows, F].
at::Tensor swiglu_cpu_fwd(const at::Tensor& packed);

// dy [rows, F], last dimension contiguous → the gradient of packed, [rows, 2F].
at::Tensor swiglu_cpu_bwd(const at::Tensor& dy, const at::Tensor& packed);

}  // namespace transxssm::ops
