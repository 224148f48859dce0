// SwiGLU over packed [gate | up] rows; ops/swiglu.h holds the formula.
#pragma once

#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to

namespace transxssm::kernels {

// Matrices are bf16 and contiguous, at a multiple of 16 bytes; f is a multiple of 8.
struct SwigluForwardParams {
  const void* packed;  // [rows, 2f]
  void* h;             // [rows, f]
  int64_t rows, f;
};

struct SwigluBackwardParams {
  const void* dh;      // [rows, f]
  const void* packed;  // [rows, 2f]
  void* d_packed;      // [rows, 2f]
  void* h;             // [rows, f]: the product once more, with the bits of the forward pass; or null
  int64_t rows, f;
};

void swiglu_forward(const SwigluForwardParams& p, CUstream_st* stream);
void swiglu_backward(const SwigluBackwardParams& p, CUstream_st* stream);

}  // namespace transxssm::kernels
