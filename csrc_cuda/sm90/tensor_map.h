// Descriptions of bf16 tensors in global memory for the tile copies of tma.cuh.
#pragma once

#include <cstdint>

#include <cuda.h>

namespace transxssm::kernels::sm90 {

// [batches, rows, columns] with strides in values; the last dimension is contiguous. The pointer is 16-byte
// aligned, the strides are multiples of 8 values.
struct TensorLayout {
  const void* data;
  int64_t columns, rows, batches;
  int64_t row_stride, batch_stride;
};

// For tiles of 64 × 64 in the 128-byte swizzle. Throws with `what` if the layout can't be copied so.
CUtensorMap make_tensor_map(const char* what, const TensorLayout& tensor);

}  // namespace transxssm::kernels::sm90
