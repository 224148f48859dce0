// RMSNorm of y ⊙ silu(z); ops/rms_norm.h holds the formula.
#pragma once

#include "csrc_cuda/rms_norm/params.h"

namespace transxssm::kernels {

inline constexpr int kMaxGatedNormWidth = 4096;

// As norm_parts(), for kernels of which fewer run at once.
inline int64_t gated_norm_parts(int64_t rows, int64_t d) {
  const int64_t parts = d <= 1024 ? 660 : d <= 2048 ? 264 : 132;
  return std::min(parts, std::max<int64_t>(rows, 1));
}

// Rows as in params.h, no wider than that; z and dz may be columns of wider rows, of a stride that is a
// multiple of 8.
struct GatedRmsNormForwardParams {
  const void* y;   // [rows, d]
  const void* z;   // [rows, d]
  const float* w;  // [d]
  void* out;       // [rows, d]
  float* rstd;     // [rows]
  int64_t rows, z_stride;
  int d;
  float eps;
};

struct GatedRmsNormBackwardParams {
  const void* d_out;    // [rows, d]
  const void* y;        // [rows, d]
  const void* z;        // [rows, d]
  const float* w;       // [d]
  const float* rstd;    // [rows]
  void* dy;             // [rows, d]
  void* dz;             // [rows, d]
  float* partial_sums;  // [gated_norm_parts(rows, d), d]: workspace
  float* dw;            // [d], added to; or null
  int64_t rows, z_stride, dz_stride;
  int d;
};

void gated_rms_norm_forward(const GatedRmsNormForwardParams& p, CUstream_st* stream);
void gated_rms_norm_backward(const GatedRmsNormBackwardParams& p, CUstream_st* stream);

}  // namespace transxssm::kernels
