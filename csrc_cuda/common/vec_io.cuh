// Eight consecutive values at a time through 16-byte memory accesses. Pointers are 16-byte aligned.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>

namespace transxssm::kernels {

inline constexpr int kVectorWidth = 8;

struct Float8 {
  float x[kVectorWidth];
};

// Host side: launchers refuse what the kernels can't access in whole vectors.
inline bool is_vector_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

__device__ inline Float8 load_vector(const float* p) {
  const float4 low = reinterpret_cast<const float4*>(p)[0];
  const float4 high = reinterpret_cast<const float4*>(p)[1];
  return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
}

__device__ inline void store_vector(float* p, const Float8& v) {
  reinterpret_cast<float4*>(p)[0] = make_float4(v.x[0], v.x[1], v.x[2], v.x[3]);
  reinterpret_cast<float4*>(p)[1] = make_float4(v.x[4], v.x[5], v.x[6], v.x[7]);
}

// Eight bf16 as they lie in memory, half the registers of their values.
__device__ inline uint4 load_bits(const __nv_bfloat16* p) { return *reinterpret_cast<const uint4*>(p); }

__device__ inline Float8 to_values(const uint4& bits) {
  const unsigned pair[] = {bits.x, bits.y, bits.z, bits.w};  // the lower value in the lower half
  Float8 v;
#pragma unroll
  for (int i = 0; i < kVectorWidth / 2; ++i) {
    v.x[2 * i] = __uint_as_float(pair[i] << 16);
    v.x[2 * i + 1] = __uint_as_float(pair[i] & 0xffff0000u);
  }
  return v;
}

__device__ inline Float8 load_vector(const __nv_bfloat16* p) { return to_values(load_bits(p)); }

__device__ inline Float8 rounded_to_bf16(Float8 v) {
#pragma unroll
  for (float& x : v.x) x = __bfloat162float(__float2bfloat16_rn(x));
  return v;
}

// Rounds to nearest even. In inline assembly, since the compiler may cut a 16-byte store in four, which write
// parts of a sector each.
__device__ inline void store_vector(__nv_bfloat16* p, const Float8& v) {
  unsigned pair[kVectorWidth / 2];
#pragma unroll
  for (int i = 0; i < kVectorWidth / 2; ++i)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair[i]) : "f"(v.x[2 * i + 1]), "f"(v.x[2 * i]));
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(p)), "r"(pair[0]),
               "r"(pair[1]), "r"(pair[2]), "r"(pair[3])
               : "memory");
}

}  // namespace transxssm::kernels
