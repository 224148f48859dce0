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
inline constexpr int kBackwardMatrices = 4;

template <int kStageCount>
struct SsdBackwardTiles {
  static constexpr int kStages = kStageCount;
  static constexpr bool kReadersLoad = true;
  Tile c[kStages][2], b[kStages][2], x[kStages][2], dy[kStages][2];
  sm90::Mbarrier values_loaded[kStages];

  // Each matrix is announced by itself, two to a barrier.
  __device__ void init_values() {
    for (sm90::Mbarrier& loaded : values_loaded) loaded.init(kBackwardMatrices / 2);
  }
};

// Announces and queues the copy of one of a chunk's matrices: C, B, X, dY.
template <class Shared>
__device__ void load_matrix(const SsdBackwardParams& p, const SsdBackwardMaps& maps, const SsdBlock& block,
                            int chunk, int matrix, Shared& shared, int stage) {
  const bool is_key = matrix < 2;
  sm90::Mbarrier& loaded = is_key ? shared.stage[stage].loaded : shared.values_loaded[stage];
  loaded.arrive_expecting(2 * sizeof(Tile));
  Tile* const key = matrix == 0 ? shared.c[stage] : shared.b[stage];
  Tile* const value = matrix == 2 ? shared.x[stage] : shared.dy[stage];
  const int key_column = matrix == 0 ? block.c_column() : block.b_column(p.in);
  const int value_column = matrix == 2 ? block.x_column(p.in) : block.h * kSsdWidth;
  load_tiles(is_key ? key : value, 2, matrix == 3 ? maps.dy : maps.packed, loaded,
             is_key ? key_column : value_column, chunk * kSsdChunk, block.b);
}

template <class Shared>
__device__ void load_chunk(const SsdBackwardParams& p, const SsdBackwardMaps& maps, const SsdBlock& block,
                           int chunk, Shared& shared, int stage) {
  for (int matrix = 0; matrix < kBackwardMatrices; ++matrix)
    load_matrix(p, maps, block, chunk, matrix, shared, stage);
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
