// RMSNorm, alone and with the scaled residual before it; ops/rms_norm.h holds the formulas.
#pragma once

#include <algorithm>
#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to

namespace transxssm::kernels {

// Rows are [rows, d] bf16, contiguous, at a multiple of 16 bytes; d a multiple of 8, at most kMaxNormWidth.
inline constexpr int kMaxNormWidth = 8192;

// Partial sums of the vectors' gradients: the partition depends on nothing but the shape, so neither do the
// bits. As many as blocks of the backward kernels run at once on the 132 multiprocessors of an H100.
inline int64_t norm_parts(int64_t rows, int64_t d) {
  const int64_t parts = d <= 1024 ? 792 : d <= 2048 ? 396 : 132;
  return std::min(parts, std::max<int64_t>(rows, 1));
}

struct RmsNormForwardParams {
  const void* x;       // [rows, d]
  const void* branch;  // [rows, d]: r ⊙ x + branch is normed; null: x is
  const float* r;      // [d], or null for 1
  const float* w;      // [d]
  void* sum;           // [rows, d]: r ⊙ x + branch, where there is a branch
  void* y;             // [rows, d]
  float* rstd;         // [rows]
  int64_t rows;
  int d;
  float eps;
};

struct RmsNormBackwardParams {
  const void* dy;       // [rows, d]
  const void* d_other;  // [rows, d]: gradient of r ⊙ normed, which goes on beside y; or null
  const void* normed;   // [rows, d]: what was normed
  const float* r;       // [d], or null for 1
  const float* w;       // [d]
  const float* rstd;    // [rows]
  void* d_normed;       // [rows, d]
  void* y;              // [rows, d]: forward's y once more, bit for bit; or null
  float* partial_sums;  // [2, norm_parts(rows, d), d]: workspace
  float* dw;            // [d], added to; or null
  float* dr;            // [d], added to; or null
  int64_t rows;
  int d;
};

void rms_norm_forward(const RmsNormForwardParams& p, CUstream_st* stream);
void rms_norm_backward(const RmsNormBackwardParams& p, CUstream_st* stream);

}  // namespace transxssm::kernels
