// AdamW, device code: each element is read and written once.
#pragma once

#include <cuda_bf16.h>

#include "csrc_cuda/adamw/params.h"

namespace transxssm::kernels {

// What all elements of a step share. 1 − βᵗ is −expm1(t ln β), which does not cancel for small t.
struct AdamWScalars {
  float beta1, beta2;
  float rest1, rest2;                      // 1 − β
  float inv_correction1, inv_correction2;  // 1 / (1 − βᵗ)
  float lr, grad_scale, eps, weight_decay;
};

// Known on the host: β, 1 − β and ln β, formed in f64.
struct AdamWBetas {
  float beta1, beta2, rest1, rest2, log1, log2;
};

__device__ inline AdamWScalars adamw_scalars(const AdamWParams& p, const AdamWBetas& b) {
  const auto t = static_cast<float>(*p.step);
  return {
      b.beta1, b.beta2,       b.rest1, b.rest2,       -1.0f / expm1f(t * b.log1), -1.0f / expm1f(t * b.log2),
      *p.lr,   *p.grad_scale, p.eps,   p.weight_decay};
}

__device__ inline void adamw_element(const AdamWScalars& s, float grad, float& w, float& m, float& v) {
  const float g = s.grad_scale * grad;
  m = s.beta1 * m + s.rest1 * g;
  v = s.beta2 * v + s.rest2 * g * g;
  const float update = __fdividef(m * s.inv_correction1, sqrtf(v * s.inv_correction2) + s.eps);
  w -= s.lr * (update + s.weight_decay * w);
}

// Four consecutive elements of a thread, so that a warp's accesses leave no gaps.
inline constexpr int kAdamWWidth = 4;

__device__ inline void adamw_four(const AdamWParams& p, const AdamWScalars& s, int64_t first) {
  const auto at = [&](float* x) -> float4& { return *reinterpret_cast<float4*>(x + first); };
  float4 w = at(p.master), m = at(p.m), v = at(p.v);
  const float4 grad = *reinterpret_cast<const float4*>(p.grad + first);
  adamw_element(s, grad.x, w.x, m.x, v.x);
  adamw_element(s, grad.y, w.y, m.y, v.y);
  adamw_element(s, grad.z, w.z, m.z, v.z);
  adamw_element(s, grad.w, w.w, m.w, v.w);
  at(p.master) = w;
  at(p.m) = m;
  at(p.v) = v;
  if (p.compute_bf16 == nullptr) return;
  auto* pairs = reinterpret_cast<__nv_bfloat162*>(static_cast<__nv_bfloat16*>(p.compute_bf16) + first);
  pairs[0] = __floats2bfloat162_rn(w.x, w.y);
  pairs[1] = __floats2bfloat162_rn(w.z, w.w);
}

// A thread per kAdamWWidth elements.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) adamw_kernel(const AdamWParams p, const AdamWBetas betas) {
  const int64_t first = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kAdamWWidth;
  const int64_t end = first + kAdamWWidth < p.n ? first + kAdamWWidth : p.n;
  if (first >= p.n || !*p.apply) return;
  const AdamWScalars s = adamw_scalars(p, betas);
  if (end - first == kAdamWWidth) return adamw_four(p, s, first);
  for (int64_t i = first; i < end; ++i) {
    adamw_element(s, p.grad[i], p.master[i], p.m[i], p.v[i]);
    if (p.compute_bf16 != nullptr)
      static_cast<__nv_bfloat16*>(p.compute_bf16)[i] = __float2bfloat16_rn(p.master[i]);
  }
}

}  // namespace transxssm::kernels
