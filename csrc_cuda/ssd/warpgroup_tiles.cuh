// Moves between accumulators of a warpgroup (sm90/wgmma.cuh) and swizzled tiles.
#pragma once

#include "csrc_cuda/sm90/wgmma.cuh"
#include "csrc_cuda/ssd/chunk_scalars.cuh"

namespace transxssm::kernels {

// 64 rows of 64 bf16 columns; a 128-wide matrix is two of them in a row.
struct alignas(1024) Tile {
  unsigned char bytes[sm90::kTileBytes];
};

// This thread's place in accumulators: rows row() and row() + 8, columns 8 k + column() and the next.
__device__ inline int lane_index() { return static_cast<int>(threadIdx.x) % 32; }
// So that the compiler knows it to be the same for all of a warp.
__device__ inline int warpgroup_index() { return __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128, 0); }
__device__ inline int warp_in_group() { return static_cast<int>(threadIdx.x) % 128 / 32; }
__device__ inline int accumulator_row() { return 16 * warp_in_group() + lane_index() / 4; }
__device__ inline int accumulator_column() { return 2 * (lane_index() % 4); }
// The same, computed where they are used.
__device__ inline int thread_of_group_anew() { return computed_anew(static_cast<int>(threadIdx.x) % 128); }
__device__ inline int accumulator_row_anew() {
  const int thread = thread_of_group_anew();
  return thread / 32 * 16 + thread % 32 / 4;
}
__device__ inline int accumulator_column_anew() { return 2 * (thread_of_group_anew() % 4); }

// Every lane of the warp is done with what the barrier guards.
__device__ inline void warp_arrive(sm90::Mbarrier& barrier) {
  __syncwarp();
  if (lane_index() == 0) barrier.arrive();
  __syncwarp();
}

// Scales the thread's two rows of accumulators.
template <int kCount>
__device__ void scale_rows(float (&d)[kCount], float low, float high) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) d[i] *= i % 4 < 2 ? low : high;
}

// A's registers for contraction step `step` (16 columns) from accumulators.
template <int kCount>
__device__ void pack_step(const float (&d)[kCount], int step, uint32_t (&a)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) a[i] = sm90::pack_bf16(d[8 * step + 2 * i], d[8 * step + 2 * i + 1]);
}

// Rounds accumulators [64 × 32], [64 × 64] or [64 × 128] into tiles, from column `first_column` (a multiple
// of 32) on; the second 64 columns go kColumnTiles tiles further on.
template <int kColumnTiles, int kCount>
__device__ void store_rounded(const float (&d)[kCount], Tile* tiles, int first_column = 0) {
  const int thread = thread_of_group_anew(), matrix = thread % 32 / 8;
  const int row = thread / 32 * 16 + 8 * (matrix % 2) + thread % 8;
  const uint32_t first_piece =
      sm90::shared_address(tiles) + sm90::piece_offset(row, first_column / 8 + matrix / 2);
#pragma unroll
  for (int step = 0; step < kCount / 8; ++step) {
    uint32_t a[4];
    pack_step(d, step, a);
    sm90::store_matrices(
        sm90::other_piece(first_piece, 2 * (step % 4)) + step / 4 * kColumnTiles * sm90::kTileBytes, a[0],
        a[1], a[2], a[3]);
  }
}

// A's registers of the transpose of a tile [64 tokens × 64 outer], token t scaled by scale[t], rounded again.
__device__ inline void load_transposed_scaled(const Tile& tile, const float* scale, uint32_t (&a)[4][4]) {
  const int thread = thread_of_group_anew(), matrix = thread % 32 / 8;
  const int piece = thread / 32 * 2 + matrix % 2;
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    const int token = 16 * step + 8 * (matrix / 2) + thread % 8;
    sm90::load_matrices_transposed(a[step],
                                   sm90::shared_address(tile.bytes) + sm90::piece_offset(token, piece));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float2 w = *reinterpret_cast<const float2*>(scale + 16 * step + 8 * half + 2 * (thread % 4));
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i)
        a[step][i] = sm90::pack_bf16(sm90::low_half(a[step][i]) * w.x, sm90::high_half(a[step][i]) * w.y);
    }
  }
}

// visit(element, value): the values of tiles, as store_rounded lays them out, at this thread's accumulators.
template <int kColumnTiles, int kCount, class Visit>
__device__ void for_each_value(const Tile* tiles, const Visit& visit) {
  const int thread = thread_of_group_anew(), matrix = thread % 32 / 8;
  const int row = thread / 32 * 16 + 8 * (matrix % 2) + thread % 8;
  const uint32_t first_piece = sm90::shared_address(tiles) + sm90::piece_offset(row, matrix / 2);
#pragma unroll
  for (int step = 0; step < kCount / 8; ++step) {
    uint32_t a[4];
    sm90::load_matrices(
        a, sm90::other_piece(first_piece, 2 * (step % 4)) + step / 4 * kColumnTiles * sm90::kTileBytes);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      visit(8 * step + 2 * i, sm90::low_half(a[i]));
      visit(8 * step + 2 * i + 1, sm90::high_half(a[i]));
    }
  }
}

}  // namespace transxssm::kernels
