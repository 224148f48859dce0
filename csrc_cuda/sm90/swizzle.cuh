// The 128-byte swizzle that TMA writes and wgmma reads, and the 8×8 matrix moves between it and registers.
//
// A tile holds 64 columns of bf16 in rows of 128 bytes. Row r keeps its 16-byte piece c (8 values) at piece c
// XOR (r mod 8). A 128-wide matrix is two such tiles, so column n and column n + 64 lie at the same place of
// neighbouring tiles.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>

#include "csrc_cuda/sm90/mbarrier.cuh"

namespace transxssm::kernels::sm90 {

inline constexpr int kRowBytes = 128;
inline constexpr int kTileBytes = 64 * kRowBytes;  // of 64 rows

// Byte offset in a tile of the 16-byte piece `piece` of row `row`.
__device__ inline uint32_t piece_offset(int row, int piece) {
  return static_cast<uint32_t>(row * kRowBytes + ((piece ^ (row & 7)) << 4));
}
// From the place of piece p to that of piece p XOR `distance` in the same row.
__device__ constexpr uint32_t other_piece(uint32_t offset, int distance) {
  return offset ^ static_cast<uint32_t>(distance << 4);
}

__device__ inline uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ inline float low_half(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float high_half(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

__device__ inline uint4 load_shared(uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}

// Four 8×8 matrices; lane 8 m + r names row r of matrix m. The second turns each on the way.
__device__ inline void load_matrices(uint32_t (&out)[4], uint32_t row_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(row_address)
               : "memory");
}
__device__ inline void load_matrices_transposed(uint32_t (&out)[4], uint32_t row_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(row_address)
               : "memory");
}
__device__ inline void store_matrices(uint32_t row_address, uint32_t m0, uint32_t m1, uint32_t m2,
                                      uint32_t m3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row_address), "r"(m0),
               "r"(m1), "r"(m2), "r"(m3)
               : "memory");
}

}  // namespace transxssm::kernels::sm90
