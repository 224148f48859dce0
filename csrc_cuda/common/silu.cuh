// SiLU and its derivative in f32.
#pragma once

namespace transxssm::kernels {

// A few 2⁻²³ from exact; 0 for x far below 0.
__device__ inline float sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }

// d silu(x) / dx, given s = sigmoid(x).
__device__ inline float silu_slope(float x, float s) { return s * fmaf(x, 1.0f - s, 1.0f); }

}  // namespace transxssm::kernels
