// What both roles of the backward scan share.
#pragma once

#include "csrc_cuda/ssd/loader.cuh"

namespace transxssm::kernels {

struct SsdBackwardMaps {
  CUtensorMap packed;  // [B, T, columns]
  CUtensorMap dy;      // [B, T, H·128]
  CUtensorMap d_c;     // where C's gradient goes: the packed gradient, or one matrix by head
  CUtensorMap saved;   // [B·H, spans·128, 128]
};

// Tiles of one chunk in each stage: the keys C and B, which are turned, the values X and dY, which are not
// and have a barrier of their own.
template <int kStageCount>
struct SsdBackwardTiles {
  static constexpr int kStages = kStageCount;
  static constexpr bool kReadersLoad = true;
  Tile c[kStages][2], b[kStages][2], x[kStages][2], dy[kStages][2];
  sm90::Mbarrier values_loaded[kStages];
};

template <class Shared>
__device__ void load_keys(const SsdBackwardParams& p, const SsdBackwardMaps& maps, const SsdBlock& block,
                          int chunk, Shared& shared, int stage) {
  sm90::Mbarrier& loaded = shared.stage[stage].loaded;
  const int row = chunk * kSsdChunk;
  loaded.arrive_expecting(4 * sizeof(Tile));
  load_tiles(shared.c[stage], 2, maps.packed, loaded, block.c_column(), row, block.b);
  load_tiles(shared.b[stage], 2, maps.packed, loaded, block.b_column(p.in), row, block.b);
}

template <class Shared>
__device__ void load_values(const SsdBackwardParams& p, const SsdBackwardMaps& maps, const SsdBlock& block,
                            int chunk, Shared& shared, int stage) {
  sm90::Mbarrier& loaded = shared.values_loaded[stage];
  const int row = chunk * kSsdChunk;
  loaded.arrive_expecting(4 * sizeof(Tile));
  load_tiles(shared.x[stage], 2, maps.packed, loaded, block.x_column(p.in), row, block.b);
  load_tiles(shared.dy[stage], 2, maps.dy, loaded, block.h * kSsdWidth, row, block.b);
}

// For readers: until all tiles of the i-th chunk are there and turned.
template <class Shared>
__device__ void wait_for_tiles(Shared& shared, int i) {
  const int stage = i % Shared::kStages, use = i / Shared::kStages;
  shared.values_loaded[stage].wait(use % 2);
  shared.stage[stage].wait_ready(use);
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
  const int token = chunk * kSsdChunk + accumulator_row_anew();
  const int at = static_cast<int>(block.row(in)) * in.tokens + token;
  if (token < in.tokens) by_token[at] = values.x;
  if (token + 8 < in.tokens) by_token[at + 8] = values.y;
}

// 2^(s_i − s_j) for tokens that j reaches inside its span, else 0.
__device__ inline float pair_decay(float s_i, float s_j, int i, int j, int last_j) {
  const bool visible = static_cast<unsigned>(i - j) <= static_cast<unsigned>(last_j - j);
  return visible ? exp2_approx(fminf(s_i - s_j, 0.f)) : 0.f;
}

}  // namespace transxssm::kernels
