// SwiGLU over rows, forward and backward, by the fastest code for the tensors at hand: CUDA kernels (bf16),
// loops (f32 and f64 on the CPU) or ATen.
#pragma once

#include <ATen/core/Tensor.h>

namespace transxssm::ops {

// packed [rows, 2F] → [rows, F].
at::Tensor swiglu_rows_fwd(const at::Tensor& packed);

struct SwigluGradient {
  at::Tensor d_packed;  // [rows, 2F]
  at::Tensor h;         // [rows, F]: swiglu_rows_fwd(packed), bit for bit; undefined unless asked for
};

// dh [rows, F].
SwigluGradient swiglu_rows_bwd(const at::Tensor& dh, const at::Tensor& packed, bool rebuild);

}  // namespace transxssm::ops
