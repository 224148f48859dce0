// The forward scan: one block per sequence, head and share of the head's columns, chunk after chunk.
//
// With C, B rotated, s and Δ of the chunk (chunk_scalars.cuh) and the state S [P × N] before it:
//   Y = diag(e^s) C Sᵀ + M X,  M_ij = (C Bᵀ)_ij e^{s_i − s_j} Δ_j for j ≤ i      S ← e^{s_end} S + (w ∘ X)ᵀ B
// Roles by warpgroup, each as far ahead of the next as the stages allow:
//   loaders  copy tiles in and rotate C and B in place
//   pairs    makes M, which needs no state
//   scans    one or two, each with 64 columns of X: their rows of S, in f32 registers, and their columns of Y
#pragma once

#include "csrc_cuda/ssd/loader.cuh"
#include "csrc_cuda/ssd/state_registers.cuh"

namespace transxssm::kernels {

struct SsdForwardMaps {
  CUtensorMap packed;  // [B, T, columns]
  CUtensorMap y;       // [B, T, H·128]
  CUtensorMap saved;   // [B·H, states·128, 128]
};

template <int kParts>
struct SsdForwardShared {
  static constexpr int kStages = kParts == 2 ? 3 : 4;
  static constexpr int kPairStages = 2;
  static constexpr int kLoaderThreads = kParts == 2 ? 128 : 256;
  static constexpr bool kReadersLoad = false;
  static constexpr int kThreads = 128 * (kParts + 1) + kLoaderThreads;
  Tile c[kStages][2], b[kStages][2], x[kStages][kParts];
  Tile pairs[kPairStages];  // M
  Tile state[kParts][2];    // rounded copy
  Tile y[kParts];
  ScalarRing<kStages> scalars;
  RotationStep rotation_step;
  SsdStage stage[kStages];
  sm90::Mbarrier pairs_ready[kPairStages], pairs_free[kPairStages];

  template <class Rotation>
  __device__ void turn(Rotation& rotation, int i) {
    const int k = i % kStages;
    rotation.turn({c[k]->bytes, b[k]->bytes});
  }
};

template <int kParts>
__device__ void run_forward_loaders(const SsdForwardParams& p, const SsdForwardMaps& maps,
                                    const SsdBlock& block, int first_part, SsdForwardShared<kParts>& shared) {
  const auto chunk_at = [&](int i) { return block.first_chunk + i; };
  const auto load = [&](int i, int stage) {
    SsdStage& s = shared.stage[stage];
    const int row = chunk_at(i) * kSsdChunk;
    s.loaded.arrive_expecting((4 + kParts) * sizeof(Tile));
    load_tiles(shared.c[stage], 2, maps.packed, s.loaded, block.c_column(), row, block.b);
    load_tiles(shared.b[stage], 2, maps.packed, s.loaded, block.b_column(p.in), row, block.b);
    load_tiles(shared.x[stage], kParts, maps.packed, s.loaded, block.x_column(p.in) + 64 * first_part, row,
               block.b);
  };
  const int thread = static_cast<int>(threadIdx.x) - 128 * (kParts + 1);
  run_loaders(p.in, block, thread, 1 + kParts, block.chunks(), shared, chunk_at, load);
}

// C Bᵀ → M, in place.
__device__ inline void weigh_pairs(float (&products)[32], const ChunkScalars& scalars) {
  const int row = accumulator_row();
  const float s[2] = {scalars.s[row], scalars.s[row + 8]};
  const int first[2] = {scalars.first[row], scalars.first[row + 8]};
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const int column = 8 * k + accumulator_column();
    const float2 t = *reinterpret_cast<const float2*>(scalars.pair_column + column);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int i = row + 8 * (e / 2), j = column + e % 2;
      const bool visible = static_cast<unsigned>(j - first[e / 2]) <= static_cast<unsigned>(i - first[e / 2]);
      const float weight = exp2_approx(s[e / 2] - (e % 2 ? t.y : t.x));
      products[4 * k + e] = visible ? products[4 * k + e] * weight : 0.f;
    }
  }
}

template <int kParts>
__device__ void run_forward_pairs(const SsdBlock& block, SsdForwardShared<kParts>& shared) {
  using Shared = SsdForwardShared<kParts>;
  for (int i = 0; i < block.chunks(); ++i) {
    const int stage = i % Shared::kStages, slot = i % Shared::kPairStages;
    shared.stage[stage].wait_ready(i / Shared::kStages);
    float products[32];
    sm90::wgmma_fence();
    sm90::multiply<8, sm90::Major::contraction, sm90::Major::contraction>(
        products, sm90::Rows64{shared.c[stage]}, sm90::Rows64{shared.b[stage]}, false);
    sm90::wgmma_commit();
    if (i >= Shared::kPairStages) shared.pairs_free[slot].wait((i / Shared::kPairStages - 1) % 2);
    sm90::wgmma_wait<0>();
    weigh_pairs(products, shared.scalars[i]);
    __syncwarp();
    if (lane_index() == 0) shared.stage[stage].free.arrive();
    store_rounded<1>(products, &shared.pairs[slot]);
    sm90::fence_async_proxy();
    shared.pairs_ready[slot].arrive();
  }
}

template <int kParts>
class SsdForwardScan {
 public:
  using Shared = SsdForwardShared<kParts>;

  __device__ SsdForwardScan(const SsdForwardParams& p, const SsdForwardMaps& maps, const SsdBlock& block,
                            Shared& shared, int first_part, int part)
      : p_(p), maps_(maps), block_(block), shared_(shared), part_(part), column_(64 * (first_part + part)) {}

  __device__ void run() {
    float state[64];
    load_initial_state(state);
    const bool stores = threadIdx.x % 128 == 0;
    const float d_skip = p_.in.d_skip ? p_.in.d_skip[block_.h] : 0.f;
    for (int chunk = block_.first_chunk; chunk < block_.last_chunk; ++chunk) {
      const int i = chunk - block_.first_chunk, stage = i % Shared::kStages;
      const ChunkScalars& scalars = shared_.scalars[i];
      const Tile& x = shared_.x[stage][part_];
      if (stores && p_.saved_states && chunk % 2 == 0) save_state(chunk / 2);
      shared_.stage[stage].wait_ready(i / Shared::kStages);

      const float carry = scalars.carry;
#pragma unroll
      for (float& value : state) value *= carry;
      float y[32];
      sm90::wgmma_fence();
      sm90::multiply<8, sm90::Major::contraction, sm90::Major::contraction>(
          y, sm90::Rows64{shared_.c[stage]}, sm90::Rows64{shared_.state[part_]}, false);
      sm90::wgmma_commit();

      uint32_t added[4][4];
      load_transposed_scaled(x, scalars.added, added);
      sm90::wgmma_fence();
      sm90::multiply<sm90::Major::outer>(state, added, sm90::Rows64{shared_.b[stage]}, true);
      sm90::wgmma_commit();

      const int slot = i % Shared::kPairStages;
      shared_.pairs_ready[slot].wait(i / Shared::kPairStages % 2);
      sm90::wgmma_wait<1>();
      weigh_carried(y, scalars);
      sm90::wgmma_fence();
      sm90::multiply<4, sm90::Major::contraction, sm90::Major::outer>(y, sm90::Rows64{&shared_.pairs[slot]},
                                                                      sm90::Rows64{&x}, true);
      sm90::wgmma_commit();

      sm90::wgmma_wait<1>();
      if (stores) sm90::wait_stores_read();
      sync();  // every warp has read the old copy of the state, and the copy engine what it was to store
      store_rounded<1>(state, shared_.state[part_]);
      sm90::wgmma_wait<0>();
      if (p_.in.d_skip) add_skip(y, x, d_skip);
      __syncwarp();
      if (lane_index() == 0) {
        shared_.pairs_free[slot].arrive();
        shared_.stage[stage].free.arrive();
      }
      store_rounded<1>(y, &shared_.y[part_]);
      sm90::fence_async_proxy();
      sync();
      if (stores) {
        sm90::store_tile(&maps_.y, &shared_.y[part_], block_.h * kSsdWidth + column_, chunk * kSsdChunk,
                         block_.b);
        sm90::commit_stores();
      }
    }
    if (block_.segment == p_.in.segments - 1) {
      turn_to_absolute(state, p_.in, block_.b, false);
      write_state(state, p_.final_state, block_.row(p_.in), column_);
    }
    if (stores) sm90::wait_stores_read();
  }

 private:
  __device__ void sync() const { sm90::named_barrier_sync(1 + part_, 128); }

  __device__ void load_initial_state(float (&state)[64]) {
    const int64_t row = block_.row(p_.in);
    if (p_.in.segments == 1)
      read_state(state, p_.initial_state, row, column_);
    else
      read_state(state, p_.segment_states, row * p_.in.segments + block_.segment, column_);
    store_rounded<1>(state, shared_.state[part_]);
    sm90::fence_async_proxy();
    sync();
  }

  __device__ void save_state(int index) const {
    const int row = index * kSsdWidth + column_, sequence = static_cast<int>(block_.row(p_.in));
    sm90::store_tile(&maps_.saved, &shared_.state[part_][0], 0, row, sequence);
    sm90::store_tile(&maps_.saved, &shared_.state[part_][1], 64, row, sequence);
    sm90::commit_stores();
  }

  __device__ static void weigh_carried(float (&y)[32], const ChunkScalars& scalars) {
    const float e0 = scalars.from_carry[accumulator_row()], e1 = scalars.from_carry[accumulator_row() + 8];
#pragma unroll
    for (int i = 0; i < 32; ++i) y[i] *= i % 4 < 2 ? e0 : e1;
  }

  __device__ static void add_skip(float (&y)[32], const Tile& x, float d_skip) {
    for_each_value<1, 32>(&x, [&](int element, float value) { y[element] += d_skip * value; });
  }

  const SsdForwardParams& p_;
  const SsdForwardMaps& maps_;
  const SsdBlock block_;
  Shared& shared_;
  int part_, column_;
};

// Grid: heads · (2 / kParts), B, segments.
template <int kParts>
__global__ void __launch_bounds__(SsdForwardShared<kParts>::kThreads, 1)
    ssd_forward_kernel(const SsdForwardParams p, const __grid_constant__ SsdForwardMaps maps) {
  using Shared = SsdForwardShared<kParts>;
  extern __shared__ __align__(1024) unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared*>(memory);
  if (threadIdx.x == 0) {
    sm90::prefetch_tensor_map(&maps.packed);
    for (SsdStage& stage : shared.stage) stage.init(Shared::kLoaderThreads, 4 * (kParts + 1));
    for (int slot = 0; slot < Shared::kPairStages; ++slot) {
      shared.pairs_ready[slot].init(128);
      shared.pairs_free[slot].init(4 * kParts);
    }
    sm90::fence_mbarrier_init();
  }
  __syncthreads();
  constexpr int kShares = 2 / kParts;
  const int index = static_cast<int>(blockIdx.x), first_part = index % kShares * kParts;
  const SsdBlock block(p.in, static_cast<int>(blockIdx.y), index / kShares, static_cast<int>(blockIdx.z));
  // Registers: 512 threads have 128 each to begin with.
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (warpgroup > kParts) {
    sm90::lower_registers<kParts == 2 ? 88 : 112>();
    run_forward_loaders<kParts>(p, maps, block, first_part, shared);
  } else if (warpgroup == kParts) {
    sm90::lower_registers<kParts == 2 ? 104 : 96>();
    run_forward_pairs<kParts>(block, shared);
  } else {
    sm90::raise_registers<kParts == 2 ? 160 : 176>();
    SsdForwardScan<kParts>(p, maps, block, shared, first_part, warpgroup).run();
  }
}

}  // namespace transxssm::kernels
