// SiLU and its derivative in f32.
#pragma once

namespace transxssm::kernels {

// 1 / (1 + 2^(−x log₂ e)) by the special-function unit alone, a few 2⁻²³ from exact for x of a few units; 0
// where the power overflows.
__device__ inline float sigmoid(float x) {
  constexpr float kLog2E = 1.4426950408889634f;
  float power, out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(-kLog2E * x));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(1.0f + power));
  return out;
}

// d silu(x) / dx, given s = sigmoid(x).
__device__ inline float silu_slope(float x, float s) { return s * fmaf(x, 1.0f - s, 1.0f); }

}  // namespace transxssm::kernels
