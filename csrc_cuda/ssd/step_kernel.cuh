// The SSD decode step, device code. It only streams the state: 64 KB in and 64 KB out per head and sequence.
#pragma once

#include <cuda_bf16.h>

#include "csrc_cuda/common/device_check.cuh"
#include "csrc_cuda/common/reduce.cuh"
#include "csrc_cuda/ssd/step_params.h"

namespace transxssm::kernels {

// A lane owns four neighbouring columns of the state.
inline constexpr int kStepColumns = kSsdStepWidth / kWarpSize;

__device__ inline float step_load(const float* at) { return __ldg(at); }
__device__ inline float step_load(const __nv_bfloat16* at) { return __bfloat162float(__ldg(at)); }
__device__ inline void step_store(float* at, float value) { *at = value; }
__device__ inline void step_store(__nv_bfloat16* at, float value) { *at = __float2bfloat16(value); }

__device__ inline float step_softplus(float x) { return x > 40.f ? x : log1pf(expf(x)); }

// The lane's columns of a row of C or B.
template <class T>
__device__ float4 step_columns(const T* row, int lane) {
  const T* at = row + lane * kStepColumns;
  return {step_load(at), step_load(at + 1), step_load(at + 2), step_load(at + 3)};
}

// A column's partner under rotate-half belongs to the lane sixteen further.
__device__ inline float4 step_rotate(const float4& v, const float4& cos, const float4& signed_sin) {
  const auto turn = [](float own, float c, float s) {
    return fmaf(own, c, __shfl_xor_sync(0xffffffffu, own, kWarpSize / 2) * s);
  };
  return {turn(v.x, cos.x, signed_sin.x), turn(v.y, cos.y, signed_sin.y), turn(v.z, cos.z, signed_sin.z),
          turn(v.w, cos.w, signed_sin.w)};
}

// Multiply-adds are spelled out, so that every instantiation rounds alike.
//
// kRows: rows of the state that a warp takes, all their loads in flight together.
// Grid [128 / (warps · kRows), H, B].
template <class T, int kRows, int kThreads>
__global__ void __launch_bounds__(kThreads) ssd_step_kernel(const SsdStepParams p) {
  static_assert(kRows <= kWarpSize && kSsdStepWidth % (kRows * kThreads / kWarpSize) == 0);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int head = static_cast<int>(blockIdx.y), heads = p.heads;
  const int64_t b = blockIdx.z;
  const int first_row =
      (static_cast<int>(blockIdx.x) * (kThreads / kWarpSize) + static_cast<int>(threadIdx.x) / kWarpSize) *
      kRows;

  // The state first: everything else is computed while it is on its way.
  auto* const state = reinterpret_cast<float4*>(p.state) +
                      ((b * heads + head) * kSsdStepWidth + first_row) * kWarpSize + lane;
  float4 s[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) s[r] = state[r * kWarpSize];

  const T* const packed = static_cast<const T*>(p.packed) + b * p.packed_row_stride;
  const int group = head / (heads / p.groups), bc_width = p.groups * kSsdStepWidth;
  const T* const x = packed + 2 * bc_width + head * kSsdStepWidth + first_row;
  const float own_x = lane < kRows ? step_load(x + lane) : 0.f;  // of row `lane`, as own_dtx and own_y
  const float tau = step_load(packed + 2 * bc_width + heads * kSsdStepWidth + head);
  const float dt = step_softplus(tau + p.dt_bias[head]);
  const float keep = expf(-dt * expf(p.a_log[head]));
  float4 c = step_columns(packed + group * kSsdStepWidth, lane);
  float4 write = step_columns(packed + bc_width + group * kSsdStepWidth, lane);
  if (p.rope_cos) {
    const int64_t position = p.positions[b * p.positions_stride];
    expect_on_device(position >= 0 && position < p.rope_rows,
                     "ssd_step positions: expected rows of the rotary table (blockIdx.z is the sequence)");
    constexpr int kVectors = kWarpSize / 2;  // of a table row
    const int64_t at = position * kVectors + lane % kVectors;
    const float4 cos = __ldg(reinterpret_cast<const float4*>(p.rope_cos) + at);
    float4 sin = __ldg(reinterpret_cast<const float4*>(p.rope_sin) + at);
    if (lane < kVectors) sin = {-sin.x, -sin.y, -sin.z, -sin.w};  // x₁ c − x₂ s, x₂ c + x₁ s
    c = step_rotate(c, cos, sin);
    write = step_rotate(write, cos, sin);
  }

  const float own_dtx = dt * own_x;
  const float d_skip = p.d_skip ? p.d_skip[head] : 0.f;
  float own_y = 0;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float dtx = __shfl_sync(0xffffffffu, own_dtx, r);
    s[r].x = fmaf(s[r].x, keep, dtx * write.x);
    s[r].y = fmaf(s[r].y, keep, dtx * write.y);
    s[r].z = fmaf(s[r].z, keep, dtx * write.z);
    s[r].w = fmaf(s[r].w, keep, dtx * write.w);
    state[r * kWarpSize] = s[r];
    const float y = warp_sum(fmaf(s[r].x, c.x, fmaf(s[r].y, c.y, fmaf(s[r].z, c.z, s[r].w * c.w))));
    if (lane == r) own_y = fmaf(d_skip, own_x, y);
  }
  if (lane < kRows)
    step_store(static_cast<T*>(p.y) + (b * heads + head) * kSsdStepWidth + first_row + lane, own_y);
}

}  // namespace transxssm::kernels
