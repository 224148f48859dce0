// What both roles of the backward scan share.
#pragma once

#include "csrc_cuda/ssd/loader.cuh"

namespace transxssm::kernels {

struct SsdBackwardMaps {
  CUtensorMap packed;    // [B, T, columns]
  CUtensorMap dy;        // [B, T, H·128]
  CUtensorMap d_packed;  // [B, T, columns]
  CUtensorMap d_c, d_b;  // where C's and B's gradients go: the packed gradient, or one matrix by head
  CUtensorMap saved;     // [B·H, spans·128, 128]
};

// Tiles of one chunk in each stage: C, B, X, dY.
template <int kStageCount>
struct SsdBackwardTiles {
  static constexpr int kStages = kStageCount;
  Tile c[kStages][2], b[kStages][2], x[kStages][2], dy[kStages][2];
};

template <class Shared>
__device__ void load_backward_tiles(const SsdBackwardParams& p, const SsdBackwardMaps& maps,
                                    const SsdBlock& block, int chunk, Shared& tiles, int stage) {
  SsdStage& s = tiles.stage[stage];
  const int row = chunk * kSsdChunk;
  s.loaded.arrive_expecting(8 * sizeof(Tile));
  load_tiles(tiles.c[stage], 2, maps.packed, s, block.c_column(), row, block.b);
  load_tiles(tiles.b[stage], 2, maps.packed, s, block.b_column(p.in), row, block.b);
  load_tiles(tiles.x[stage], 2, maps.packed, s, block.x_column(p.in), row, block.b);
  load_tiles(tiles.dy[stage], 2, maps.dy, s, block.h * kSsdWidth, row, block.b);
}

// Where C's and B's gradients begin in their maps.
__device__ inline int d_c_column(const SsdBackwardParams& p, const SsdBlock& block) {
  return p.d_heads ? block.h * kSsdWidth : block.c_column();
}
__device__ inline int d_b_column(const SsdBackwardParams& p, const SsdBlock& block) {
  return p.d_heads ? block.h * kSsdWidth : block.b_column(p.in);
}

// Scales the thread's two rows of accumulators.
template <int kCount>
__device__ void scale_rows(float (&d)[kCount], float low, float high) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) d[i] *= i % 4 < 2 ? low : high;
}

// Over the four lanes that share the thread's two rows.
__device__ inline void sum_over_quad(float (&value)[2]) {
#pragma unroll
  for (int distance = 1; distance <= 2; distance *= 2) {
    value[0] += __shfl_xor_sync(~0u, value[0], distance);
    value[1] += __shfl_xor_sync(~0u, value[1], distance);
  }
}

// For the thread's two rows: Σ over columns of tile ∘ d. Every lane of a row gets the sum.
template <int kCount>
__device__ float2 row_products(const Tile* tiles, const float (&d)[kCount]) {
  float sums[2] = {};
  for_each_value<1, kCount>(tiles,
                            [&](int element, float value) { sums[element % 4 / 2] += value * d[element]; });
  sum_over_quad(sums);
  return {sums[0], sums[1]};
}

// Writes one value per row of the chunk to [B, H, T]; tokens beyond the end are left out.
__device__ inline void write_rows(float* by_token, const SsdInputs& in, const SsdBlock& block, int chunk,
                                  float2 values) {
  if (lane_index() % 4 != 0) return;
  const int token = chunk * kSsdChunk + accumulator_row();
  float* to = by_token + block.row(in) * in.tokens;
  if (token < in.tokens) to[token] = values.x;
  if (token + 8 < in.tokens) to[token + 8] = values.y;
}

// Turns one element of each half of the columns back.
__device__ inline void turn_pair_back(float& x, float& y, float cos, float sin) {
  const float turned = x * cos + y * sin;
  y = y * cos - x * sin;
  x = turned;
}

// 2^(s_i − s_j) for tokens that j reaches inside its span, else 0.
__device__ inline float pair_decay(float s_i, float s_j, int i, int j, int last_j) {
  const bool visible = static_cast<unsigned>(i - j) <= static_cast<unsigned>(last_j - j);
  return visible ? exp2_approx(fminf(s_i - s_j, 0.f)) : 0.f;
}

}  // namespace transxssm::kernels
