// Tensors as the launchers of csrc_cuda want them.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/parameter.h"

namespace transxssm::ops {

// Null where there is no tensor.
inline const float* f32_pointer(const at::Tensor& x) {
  return x.defined() ? x.const_data_ptr<float>() : nullptr;
}
inline const void* pointer(const at::Tensor& x) { return x.defined() ? x.const_data_ptr() : nullptr; }

// Where a kernel adds a parameter's gradient; null for no parameter, or one without a gradient.
inline float* gradient_pointer(const ParameterPtr& parameter) {
  return parameter && parameter->grad.defined() ? parameter->grad.mutable_data_ptr<float>() : nullptr;
}

// Number of rows along the last dimension.
inline int64_t row_count(const at::Tensor& x) { return x.numel() / std::max<int64_t>(x.size(-1), 1); }

// x [..., D] as [rows, D] for 16-byte accesses to bf16: a view where rows lie at one stride, else a copy.
inline at::Tensor vector_rows(const at::Tensor& x) {
  const at::Tensor rows = x.reshape({-1, x.size(-1)});
  const bool aligned =
      reinterpret_cast<uintptr_t>(rows.const_data_ptr()) % 16 == 0 && rows.stride(0) % 8 == 0;
  return rows.stride(1) == 1 && aligned ? rows : rows.contiguous();
}

}  // namespace transxssm::ops
