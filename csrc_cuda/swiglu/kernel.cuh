// SwiGLU, device code: eight columns of a row per thread, everything read and written once.
#pragma once

#include "csrc_cuda/common/silu.cuh"
#include "csrc_cuda/common/vec_io.cuh"
#include "csrc_cuda/swiglu/params.h"

namespace transxssm::kernels {

// Where vector `i` of the rows of h lies there, and its gate in `packed`; up lies f further.
struct SwigluPlace {
  int64_t h, gate;

  __device__ SwigluPlace(unsigned i, unsigned vectors_per_row) {
    const unsigned row = i / vectors_per_row;
    h = int64_t{i} * kVectorWidth;
    gate = h + int64_t{row} * vectors_per_row * kVectorWidth;
  }
};

template <int kThreads>
__global__ void __launch_bounds__(kThreads) swiglu_fwd_kernel(const SwigluForwardParams p) {
  const unsigned i = blockIdx.x * kThreads + threadIdx.x, vectors = static_cast<unsigned>(p.f / kVectorWidth);
  if (i >= p.rows * vectors) return;
  const SwigluPlace at(i, vectors);
  const auto* packed = static_cast<const __nv_bfloat16*>(p.packed);
  const Float8 gate = load_vector(packed + at.gate), up = load_vector(packed + at.gate + p.f);
  Float8 h;
#pragma unroll
  for (int j = 0; j < kVectorWidth; ++j) h.x[j] = gate.x[j] * sigmoid(gate.x[j]) * up.x[j];
  store_vector(static_cast<__nv_bfloat16*>(p.h) + at.h, h);
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads) swiglu_bwd_kernel(const SwigluBackwardParams p) {
  const unsigned i = blockIdx.x * kThreads + threadIdx.x, vectors = static_cast<unsigned>(p.f / kVectorWidth);
  if (i >= p.rows * vectors) return;
  const SwigluPlace at(i, vectors);
  const auto* packed = static_cast<const __nv_bfloat16*>(p.packed);
  const Float8 dh = load_vector(static_cast<const __nv_bfloat16*>(p.dh) + at.h);
  const Float8 gate = load_vector(packed + at.gate), up = load_vector(packed + at.gate + p.f);
  Float8 d_gate, d_up, h;
#pragma unroll
  for (int j = 0; j < kVectorWidth; ++j) {
    const float s = sigmoid(gate.x[j]), silu = gate.x[j] * s;
    h.x[j] = silu * up.x[j];
    d_up.x[j] = silu * dh.x[j];
    d_gate.x[j] = dh.x[j] * up.x[j] * silu_slope(gate.x[j], s);
  }
  auto* d_packed = static_cast<__nv_bfloat16*>(p.d_packed);
  store_vector(d_packed + at.gate, d_gate);
  store_vector(d_packed + at.gate + p.f, d_up);
  if (p.h != nullptr) store_vector(static_cast<__nv_bfloat16*>(p.h) + at.h, h);
}

}  // namespace transxssm::kernels
