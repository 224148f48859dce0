// AdamW, device code: each element is read and written once.
#pragma once

#include <cuda_bf16.h>

#include "csrc_cuda/adamw/params.h"
#include "csrc_cuda/common/vec_io.cuh"

namespace transxssm::kernels {

// What all elements of a step share, in the precision of the element loop.
struct AdamWScalars {
  float beta1, beta2;
  float rest1, rest2;                      // 1 − β
  float inv_correction1, inv_correction2;  // 1 / (1 − βᵗ)
  float lr, grad_scale, eps, weight_decay;
};

// In f64, since 1 − βᵗ cancels for small t.
__device__ inline AdamWScalars adamw_scalars(const AdamWParams& p) {
  const double t = static_cast<double>(*p.step);
  AdamWScalars s;
  s.beta1 = static_cast<float>(p.beta1);
  s.beta2 = static_cast<float>(p.beta2);
  s.rest1 = static_cast<float>(1.0 - p.beta1);
  s.rest2 = static_cast<float>(1.0 - p.beta2);
  s.inv_correction1 = static_cast<float>(1.0 / (1.0 - pow(p.beta1, t)));
  s.inv_correction2 = static_cast<float>(1.0 / (1.0 - pow(p.beta2, t)));
  s.lr = *p.lr;
  s.grad_scale = *p.grad_scale;
  s.eps = p.eps;
  s.weight_decay = p.weight_decay;
  return s;
}

__device__ inline void adamw_element(const AdamWScalars& s, float grad, float& w, float& m, float& v) {
  const float g = s.grad_scale * grad;
  m = s.beta1 * m + s.rest1 * g;
  v = s.beta2 * v + s.rest2 * g * g;
  const float update = m * s.inv_correction1 / (sqrtf(v * s.inv_correction2) + s.eps);
  w -= s.lr * (update + s.weight_decay * w);
}

__device__ inline void adamw_vector(const AdamWParams& p, const AdamWScalars& s, int64_t first) {
  Float8 w = load_vector(p.master + first);
  Float8 m = load_vector(p.m + first);
  Float8 v = load_vector(p.v + first);
  const Float8 grad = load_vector(p.grad + first);
#pragma unroll
  for (int i = 0; i < kVectorWidth; ++i) adamw_element(s, grad.x[i], w.x[i], m.x[i], v.x[i]);
  store_vector(p.master + first, w);
  store_vector(p.m + first, m);
  store_vector(p.v + first, v);
  if (p.compute_bf16 != nullptr) store_vector(static_cast<__nv_bfloat16*>(p.compute_bf16) + first, w);
}

template <int kThreads, int kBlocksPerSm>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm) adamw_kernel(const AdamWParams p) {
  if (!*p.apply) return;
  __shared__ AdamWScalars s;
  if (threadIdx.x == 0) s = adamw_scalars(p);
  __syncthreads();

  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t vectors = p.n / kVectorWidth;
  for (int64_t i = thread; i < vectors; i += int64_t{gridDim.x} * kThreads)
    adamw_vector(p, s, i * kVectorWidth);

  // What is left after the last whole vector, less than kVectorWidth elements.
  const int64_t i = vectors * kVectorWidth + thread;
  if (i < p.n) {
    adamw_element(s, p.grad[i], p.master[i], p.m[i], p.v[i]);
    if (p.compute_bf16 != nullptr)
      static_cast<__nv_bfloat16*>(p.compute_bf16)[i] = __float2bfloat16_rn(p.master[i]);
  }
}

}  // namespace transxssm::kernels
