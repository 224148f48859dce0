// The scan's tensors as the copy engine sees them.
#pragma once

#include "csrc_cuda/sm90/tensor_map.h"
#include "csrc_cuda/ssd/params.h"

namespace transxssm::kernels {

// [B, T, columns]
inline CUtensorMap packed_map(const SsdInputs& in) {
  return sm90::make_tensor_map("ssd packed", {in.packed, in.packed_columns, in.tokens, in.batch,
                                              in.packed_row_stride, in.packed_batch_stride});
}

// Contiguous [B, T, H·128].
inline CUtensorMap by_head_map(const char* what, const void* data, const SsdInputs& in) {
  const int64_t width = int64_t{in.heads} * kSsdWidth;
  return sm90::make_tensor_map(what, {data, width, in.tokens, in.batch, width, width * in.tokens});
}

// Saved states [B·H, spans·128, 128].
inline CUtensorMap states_map(const void* data, const SsdInputs& in) {
  const int64_t rows = ssd_spans(in.tokens) * kSsdWidth;
  return sm90::make_tensor_map(
      "ssd states", {data, kSsdWidth, rows, int64_t{in.batch} * in.heads, kSsdWidth, rows * kSsdWidth});
}

}  // namespace transxssm::kernels
