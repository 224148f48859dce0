// Causal convolution with SiLU, device code. A thread goes down the tokens of a run with four columns and
// keeps the last inputs in registers, so each value is read once but for the runs' borders.
#pragma once

#include <cuda_bf16.h>

#include "csrc_cuda/causal_conv1d/params.h"
#include "csrc_cuda/common/silu.cuh"

namespace transxssm::kernels {

inline constexpr int kConvColumns = 4;   // of a thread
inline constexpr int kConvThreads = 32;  // side by side
inline constexpr int kConvBlock = kConvThreads * kConvRuns;

struct Float4Columns {
  float x[kConvColumns];
};

__device__ inline uint2 load_four(const __nv_bfloat16* p) { return *reinterpret_cast<const uint2*>(p); }
__device__ inline void store_four(__nv_bfloat16* p, const uint2& bits) {
  *reinterpret_cast<uint2*>(p) = bits;
}

__device__ inline Float4Columns four_values(const uint2& bits) {
  return {{__uint_as_float(bits.x << 16), __uint_as_float(bits.x & 0xffff0000u),
           __uint_as_float(bits.y << 16), __uint_as_float(bits.y & 0xffff0000u)}};
}

__device__ inline uint2 four_bits(const Float4Columns& v) {
  union {
    __nv_bfloat162 pair[2];
    uint2 bits;
  } packed;
  packed.pair[0] = __floats2bfloat162_rn(v.x[0], v.x[1]);
  packed.pair[1] = __floats2bfloat162_rn(v.x[2], v.x[3]);
  return packed.bits;
}

// Which tokens and columns a thread has. Offsets inside a row fit 32 bits (checked by the launcher).
struct ConvPlace {
  int column, row, begin, end;  // the run's tokens are [begin, end)

  __device__ explicit ConvPlace(const ConvShape& s) {
    constexpr int kOfBlock = kConvRun * kConvRuns;
    const int tokens = static_cast<int>(s.tokens), blocks_per_row = (tokens + kOfBlock - 1) / kOfBlock;
    const int thread = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
    column = (static_cast<int>(blockIdx.y) * kConvThreads + thread % kConvThreads) * kConvColumns;
    row = block / blocks_per_row;
    begin = block % blocks_per_row * kOfBlock + thread / kConvThreads * kConvRun;
    end = min(begin + kConvRun, tokens);
  }

  // This thread's columns of token 0.
  __device__ const __nv_bfloat16* in(const void* p, int64_t batch_stride) const {
    return static_cast<const __nv_bfloat16*>(p) + row * batch_stride + column;
  }
  __device__ __nv_bfloat16* out(void* p, int64_t batch_stride) const {
    return static_cast<__nv_bfloat16*>(p) + row * batch_stride + column;
  }
};

// Tap `back` multiplies the input that many tokens before.
template <int kTaps>
struct ConvWeights {
  float of_tap[kTaps][kConvColumns];
  float bias[kConvColumns];

  __device__ ConvWeights(const float* w, const float* b, int column) {
#pragma unroll
    for (int c = 0; c < kConvColumns; ++c) {
      bias[c] = b[column + c];
#pragma unroll
      for (int back = 0; back < kTaps; ++back) of_tap[back][c] = w[(column + c) * kTaps + kTaps - 1 - back];
    }
  }
};

// The last inputs of a row and their documents; index 0 is the current token.
template <int kTaps>
struct ConvWindow {
  uint2 bits[kTaps];
  int document[kTaps];

  __device__ void push(const uint2& newest, int newest_document) {
#pragma unroll
    for (int back = kTaps - 1; back > 0; --back) {
      bits[back] = bits[back - 1];
      document[back] = document[back - 1];
    }
    bits[0] = newest;
    document[0] = newest_document;
  }
  __device__ bool visible(int back) const { return back == 0 || document[back] == document[0]; }

  __device__ Float4Columns pre_activation(const ConvWeights<kTaps>& w) const {
    Float4Columns sum;
#pragma unroll
    for (int c = 0; c < kConvColumns; ++c) sum.x[c] = w.bias[c];
#pragma unroll
    for (int back = 0; back < kTaps; ++back) {
      if (!visible(back)) continue;
      const Float4Columns x = four_values(bits[back]);
#pragma unroll
      for (int c = 0; c < kConvColumns; ++c) sum.x[c] = fmaf(w.of_tap[back][c], x.x[c], sum.x[c]);
    }
    return sum;
  }
};

inline constexpr int kNoDocument = -1;

// One row's inputs and documents, and the tokens before `begin` in a window.
template <int kTaps>
struct ConvInputs {
  const __nv_bfloat16* x;  // of token 0
  const int* document;
  int stride, tokens;

  __device__ uint2 bits(int t) const { return t < tokens ? load_four(x + t * stride) : uint2{0, 0}; }
  __device__ int document_of(int t) const { return t < tokens ? document[t] : kNoDocument; }

  __device__ ConvWindow<kTaps> before(int begin) const {
    ConvWindow<kTaps> window;
#pragma unroll
    for (int back = 0; back < kTaps; ++back) {
      window.bits[back] = uint2{0, 0};
      window.document[back] = kNoDocument;
    }
#pragma unroll
    for (int back = kTaps - 1; back > 0; --back)
      if (begin >= back) window.push(bits(begin - back), document_of(begin - back));
    return window;
  }
};

inline constexpr int kConvAhead = 4;  // tokens on their way at a time

template <int kTaps>
__global__ void __launch_bounds__(kConvBlock) causal_conv1d_fwd_kernel(const CausalConv1dForwardParams p) {
  const ConvShape& s = p.shape;
  const ConvPlace place(s);
  if (place.column >= s.columns) return;
  const ConvInputs<kTaps> in{place.in(p.x, p.x_batch_stride), p.document + place.row * s.tokens,
                             static_cast<int>(p.x_stride), static_cast<int>(s.tokens)};
  const int columns = static_cast<int>(s.columns);
  __nv_bfloat16* y_out = place.out(p.y, s.tokens * s.columns);
  if (place.column >= s.channels) {
#pragma unroll 4
    for (int t = place.begin; t < place.end; ++t) store_four(y_out + t * columns, in.bits(t));
    return;
  }
  const ConvWeights<kTaps> w(p.w, p.bias, place.column);
  ConvWindow<kTaps> window = in.before(place.begin);
  for (int t = place.begin; t < place.end; t += kConvAhead) {
    uint2 bits[kConvAhead];
    int document[kConvAhead];
#pragma unroll
    for (int k = 0; k < kConvAhead; ++k) {
      bits[k] = in.bits(t + k);
      document[k] = in.document_of(t + k);
    }
#pragma unroll
    for (int k = 0; k < kConvAhead; ++k) {
      window.push(bits[k], document[k]);
      Float4Columns y = window.pre_activation(w);
#pragma unroll
      for (float& value : y.x) value *= sigmoid(value);
      if (t + k < place.end) store_four(y_out + (t + k) * columns, four_bits(y));
    }
  }
}

// Sums over the runs of a block, in their order.
template <int kTaps>
struct ConvSums {
  float dw[kConvColumns][kTaps];
  float dbias[kConvColumns];
};

template <int kTaps>
__device__ void write_conv_sums(const ConvSums<kTaps>& sums, const CausalConv1dBackwardParams& p,
                                int64_t column) {
  __shared__ ConvSums<kTaps> of_run[kConvRuns][kConvThreads];
  const int lane = threadIdx.x % kConvThreads;
  of_run[threadIdx.x / kConvThreads][lane] = sums;
  __syncthreads();
  if (threadIdx.x >= kConvThreads || column >= p.shape.channels) return;
  const int64_t channels = p.shape.channels;
  float* dw = p.partial_sums + int64_t{blockIdx.x} * channels * kTaps + column * kTaps;
  float* dbias =
      p.partial_sums + int64_t{gridDim.x} * channels * kTaps + int64_t{blockIdx.x} * channels + column;
#pragma unroll
  for (int c = 0; c < kConvColumns; ++c) {
    float sum = 0;
#pragma unroll
    for (int run = 0; run < kConvRuns; ++run) sum += of_run[run][lane].dbias[c];
    dbias[c] = sum;
#pragma unroll
    for (int k = 0; k < kTaps; ++k) {
      sum = 0;
#pragma unroll
      for (int run = 0; run < kConvRuns; ++run) sum += of_run[run][lane].dw[c][k];
      dw[c * kTaps + k] = sum;
    }
  }
}

// Grid: parts() by groups of columns. The gradient of input t is complete kTaps − 1 tokens later.
template <int kTaps>
__global__ void __launch_bounds__(kConvBlock, 4)
    causal_conv1d_bwd_kernel(const CausalConv1dBackwardParams p) {
  const ConvShape& s = p.shape;
  const ConvPlace place(s);
  ConvSums<kTaps> sums{};
  const int columns = static_cast<int>(s.columns), dx_stride = static_cast<int>(p.dx_stride);
  const __nv_bfloat16* dy_in = place.in(p.dy, s.tokens * s.columns);
  __nv_bfloat16* dx_out = place.out(p.dx, p.dx_batch_stride);
  if (place.column >= s.channels) {
    if (place.column < s.columns) {
#pragma unroll 4
      for (int t = place.begin; t < place.end; ++t)
        store_four(dx_out + t * dx_stride, load_four(dy_in + t * columns));
    }
  } else if (place.begin < place.end) {
    const ConvInputs<kTaps> in{place.in(p.x, p.x_batch_stride), p.document + place.row * s.tokens,
                               static_cast<int>(p.x_stride), static_cast<int>(s.tokens)};
    const ConvWeights<kTaps> w(p.w, p.bias, place.column);
    ConvWindow<kTaps> window = in.before(place.begin);
    Float4Columns dx[kTaps]{};  // of the inputs in the window
    const int last = place.end + kTaps - 1;
    for (int first = place.begin; first < last; first += kConvAhead) {
      uint2 x_bits[kConvAhead], dy_bits[kConvAhead];
      int document[kConvAhead];
#pragma unroll
      for (int k = 0; k < kConvAhead; ++k) {
        const int t = first + k;
        x_bits[k] = in.bits(t);
        dy_bits[k] = t < in.tokens ? load_four(dy_in + t * columns) : uint2{0, 0};
        document[k] = in.document_of(t);
      }
#pragma unroll
      for (int k = 0; k < kConvAhead; ++k) {
        const int t = first + k;
        window.push(x_bits[k], document[k]);
        const Float4Columns pre = window.pre_activation(w), dy = four_values(dy_bits[k]);
        Float4Columns d_pre;
#pragma unroll
        for (int c = 0; c < kConvColumns; ++c) d_pre.x[c] = dy.x[c] * silu_slope(pre.x[c], sigmoid(pre.x[c]));
        const bool own = t < place.end;  // later tokens count for their own run
#pragma unroll
        for (int back = kTaps - 1; back >= 0; --back) {
          if (back > 0) dx[back] = dx[back - 1];
          if (back == 0) dx[0] = Float4Columns{};
          if (!window.visible(back)) continue;
          const Float4Columns x = four_values(window.bits[back]);
#pragma unroll
          for (int c = 0; c < kConvColumns; ++c) {
            dx[back].x[c] = fmaf(w.of_tap[back][c], d_pre.x[c], dx[back].x[c]);
            if (own) sums.dw[c][kTaps - 1 - back] = fmaf(d_pre.x[c], x.x[c], sums.dw[c][kTaps - 1 - back]);
          }
        }
        if (own)
#pragma unroll
          for (int c = 0; c < kConvColumns; ++c) sums.dbias[c] += d_pre.x[c];
        const int done = t - (kTaps - 1);
        if (done >= place.begin && done < place.end)
          store_four(dx_out + done * dx_stride, four_bits(dx[kTaps - 1]));
      }
    }
  }
  write_conv_sums<kTaps>(sums, p, place.column);
}

}  // namespace transxssm::kernels
