// SwiGLU and its backward in ATen, for any dtype and device.
#pragma once

#include <ATen/core/Tensor.h>

namespace transxssm::ops::reference {

// packed [rows, 2F] → [rows, F].
at::Tensor swiglu_fwd(const at::Tensor& packed);

// dy [rows, F] → the gradient of packed, [rows, 2F].
at::Tensor swiglu_bwd(const at::Tensor& dy, const at::Tensor& packed);

}  // namespace transxssm::ops::reference
