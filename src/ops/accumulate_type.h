// The type that operators compute in: f64 for f64, f32 for everything else.
#pragma once

#include <ATen/core/Tensor.h>

namespace transxssm::ops {

inline at::ScalarType accumulate_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// `x` itself where it has that type already.
inline at::Tensor to_accumulate_type(const at::Tensor& x) { return x.to(accumulate_type(x)); }

}  // namespace transxssm::ops
