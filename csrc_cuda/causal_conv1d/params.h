// Depthwise causal convolution with SiLU; ops/causal_conv1d.h holds the formula.
#pragma once

#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to

namespace transxssm::kernels {

inline constexpr int kMaxConvTaps = 4;
inline constexpr int kConvRun = 32;  // tokens of a thread
inline constexpr int kConvRuns = 4;  // runs of a block, one after the other

// Matrices are bf16, at a multiple of 8 bytes, with strides that are multiples of 4. channels and columns are
// multiples of 4, taps is 2 to kMaxConvTaps. Columns from `channels` on are copied.
struct ConvShape {
  int64_t batch, tokens, channels, columns;
  int taps;

  // Partial sums of the parameters' gradients, by tokens.
  int64_t parts() const { return batch * ((tokens + kConvRun * kConvRuns - 1) / (kConvRun * kConvRuns)); }
};

struct CausalConv1dForwardParams {
  ConvShape shape;
  const void* x;        // [batch, tokens, columns], tokens x_stride apart
  const float* w;       // [channels, taps]
  const float* bias;    // [channels]
  const int* document;  // [batch, tokens]
  void* y;              // [batch, tokens, columns], contiguous
  int64_t x_stride, x_batch_stride;
};

struct CausalConv1dBackwardParams {
  ConvShape shape;
  const void* dy;  // [batch, tokens, columns], contiguous
  const void* x;   // as in forward
  const float* w;
  const float* bias;
  const int* document;
  void* dx;             // [batch, tokens, columns], tokens dx_stride apart
  float* partial_sums;  // [parts, channels · taps] and [parts, channels]: workspace
  float* dw;            // [channels, taps], added to; or null
  float* dbias;         // [channels], added to; or null
  int64_t x_stride, x_batch_stride, dx_stride, dx_batch_stride;
};

void causal_conv1d_forward(const CausalConv1dForwardParams& p, CUstream_st* stream);
void causal_conv1d_backward(const CausalConv1dBackwardParams& p, CUstream_st* stream);

}  // namespace transxssm::kernels
