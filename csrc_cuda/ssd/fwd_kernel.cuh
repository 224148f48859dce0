// The forward scan: one block per sequence, head and share of the head's columns, chunk after chunk.
//
// With C, B rotated, s and Δ of the chunk (chunk_scalars.cuh) and the state S [P × N] before it:
//   Y = diag(e^s) C Sᵀ + M X,  M_ij = (C Bᵀ)_ij e^{s_i − s_j} Δ_j for j ≤ i      S ← e^{s_end} S + (w ∘ X)ᵀ B
// Roles by warpgroup, each as far ahead of the next as the stages allow:
//   loaders  rotate C and B in place, compute the scalars
//   pairs    makes M, which needs no state
//   carries  one per 64 columns of X: their rows of S, in f32 registers
//   outputs  Y, from the carries' rounded copy of S
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
  static constexpr bool kReadersLoad = true;
  static constexpr int kThreads = 128 * (kParts + 2) + kLoaderThreads;
  Tile c[kStages][2], b[kStages][2], x[kStages][kParts];
  Tile pairs[kPairStages];  // M
  Tile state[kParts][2];    // rounded copy
  Tile y[kParts];
  ScalarRing<kStages> scalars;
  RotationStep rotation_step;
  SsdStage stage[kStages];
  sm90::Mbarrier pairs_ready[kPairStages], pairs_free[kPairStages];
  sm90::Mbarrier state_ready[kParts], state_free[kParts];

  __device__ void init() {
    constexpr int kWarps = 4;  // of a warpgroup
    for (SsdStage& s : stage) s.init(kLoaderThreads, kWarps * (kParts + 2));
    for (int slot = 0; slot < kPairStages; ++slot) {
      pairs_ready[slot].init(128);
      pairs_free[slot].init(kWarps);
    }
    for (int part = 0; part < kParts; ++part) {
      state_ready[part].init(128);
      state_free[part].init(kWarps);
    }
  }
  template <class Rotation>
  __device__ void turn(Rotation& rotation, int i) {
    const int k = i % kStages;
    rotation.turn({c[k]->bytes, b[k]->bytes});
  }
};

enum ForwardBarrier { kForwardLoaders = 1, kForwardOutputs };

// Announces and queues the copies of the block's i-th chunk.
template <int kParts>
__device__ void load_forward(const SsdForwardParams& p, const SsdForwardMaps& maps, const SsdBlock& block,
                             int first_part, int i, SsdForwardShared<kParts>& shared) {
  const int stage = i % SsdForwardShared<kParts>::kStages, row = (block.first_chunk + i) * kSsdChunk;
  sm90::Mbarrier& loaded = shared.stage[stage].loaded;
  loaded.arrive_expecting((4 + kParts) * sizeof(Tile));
  load_tiles(shared.c[stage], 2, maps.packed, loaded, block.c_column(), row, block.b);
  load_tiles(shared.b[stage], 2, maps.packed, loaded, block.b_column(p.in), row, block.b);
  load_tiles(shared.x[stage], kParts, maps.packed, loaded, block.x_column(p.in) + 64 * first_part, row,
             block.b);
}

template <int kParts>
__device__ void run_forward_loaders(const SsdForwardParams& p, const SsdForwardMaps& maps,
                                    const SsdBlock& block, int first_part, SsdForwardShared<kParts>& shared) {
  const auto chunk_at = [&](int i) { return block.first_chunk + i; };
  const auto load = [&](int i, int /*stage*/) { load_forward(p, maps, block, first_part, i, shared); };
  const int thread = static_cast<int>(threadIdx.x) - 128 * (kParts + 2);
  run_loaders(p.in, block, thread, kForwardLoaders, block.chunks(), shared, chunk_at, load);
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
    warp_arrive(shared.stage[stage].free);
    store_rounded<1>(products, &shared.pairs[slot]);
    sm90::fence_async_proxy();
    shared.pairs_ready[slot].arrive();
  }
}

// One warpgroup: 64 rows of the state, through the whole row or segment.
template <int kParts>
__device__ void run_forward_carry(const SsdForwardParams& p, const SsdBlock& block, int first_part, int part,
                                  SsdForwardShared<kParts>& shared) {
  using Shared = SsdForwardShared<kParts>;
  const int64_t row = block.row(p.in);
  const int first_row = 64 * (first_part + part), chunks = block.chunks();
  float state[64];
  if (p.in.segments == 1)
    read_state(state, p.initial_state, row, first_row);
  else
    read_state(state, p.segment_states, row * p.in.segments + block.segment, first_row);
  const auto publish = [&] {
    store_rounded<1>(state, shared.state[part]);
    sm90::fence_async_proxy();
    shared.state_ready[part].arrive();
  };
  publish();
  for (int i = 0; i < chunks; ++i) {
    const int stage = i % Shared::kStages;
    const ChunkScalars& scalars = shared.scalars[i];
    shared.stage[stage].wait_ready(i / Shared::kStages);
    scale_rows(state, scalars.carry, scalars.carry);
    uint32_t added[4][4];
    load_transposed_scaled(shared.x[stage][part], scalars.added, added);
    sm90::wgmma_fence();
    sm90::multiply<sm90::Major::outer>(state, added, sm90::Rows64{shared.b[stage]}, true);
    sm90::wgmma_commit();
    sm90::wgmma_wait<0>();
    warp_arrive(shared.stage[stage].free);
    if (i + 1 == chunks) break;
    shared.state_free[part].wait(i % 2);
    publish();
  }
  if (block.segment != p.in.segments - 1) return;
  turn_to_absolute(state, p.in, block.b, false);
  write_state(state, p.final_state, row, first_row);
}

// One warpgroup: the block's columns of Y.
template <int kParts>
class ForwardOutputs {
 public:
  using Shared = SsdForwardShared<kParts>;

  __device__ ForwardOutputs(const SsdForwardParams& p, const SsdForwardMaps& maps, const SsdBlock& block,
                            int first_part, Shared& shared)
      : p_(p), maps_(maps), block_(block), shared_(shared), column_(64 * first_part) {}

  __device__ void run() {
    const float d_skip = p_.in.d_skip ? p_.in.d_skip[block_.h] : 0.f;
    for (int i = 0; i < block_.chunks(); ++i) {
      const int stage = i % Shared::kStages, slot = i % Shared::kPairStages;
      shared_.stage[stage].wait_ready(i / Shared::kStages);
#pragma unroll 1
      for (int part = 0; part < kParts; ++part) {
        float y[32];
        multiply_by_state(y, i, stage, part);

        const ChunkScalars& scalars = shared_.scalars[i];
        scale_rows(y, scalars.from_carry[accumulator_row()], scalars.from_carry[accumulator_row() + 8]);
        if (part == 0) shared_.pairs_ready[slot].wait(i / Shared::kPairStages % 2);
        const Tile& x = shared_.x[stage][part];
        sm90::wgmma_fence();
        sm90::multiply<4, sm90::Major::contraction, sm90::Major::outer>(y, sm90::Rows64{&shared_.pairs[slot]},
                                                                        sm90::Rows64{&x}, true);
        sm90::wgmma_commit();
        if (stores()) sm90::wait_stores_read<kParts - 1>();  // what lies in y[part] has left
        sync();
        sm90::wgmma_wait<0>();
        if (p_.in.d_skip) add_skip(y, x, d_skip);
        if (part + 1 == kParts) {
          warp_arrive(shared_.pairs_free[slot]);
          warp_arrive(shared_.stage[stage].free);
          load_next(i + Shared::kStages, stage, i / Shared::kStages);
        }
        store(y, block_.first_chunk + i, part);
      }
    }
    if (stores()) sm90::wait_stores_read();
  }

 private:
  __device__ static bool stores() { return threadIdx.x % 128 == 0; }
  __device__ static void sync() { sm90::named_barrier_sync(kForwardOutputs, 128); }

  // Outputs are the last to read a chunk: once the others have, too, asks for the one that comes in its
  // place.
  __device__ void load_next(int i, int stage, int use) {
    if (stores() && i < block_.chunks()) {
      shared_.stage[stage].free.wait(use % 2);
      load_forward(p_, maps_, block_, column_ / 64, i, shared_);
    }
    __syncwarp();
  }

  // y = C Sᵀ; saves the state before every second chunk.
  __device__ void multiply_by_state(float (&y)[32], int i, int stage, int part) {
    shared_.state_ready[part].wait(i % 2);
    const int chunk = block_.first_chunk + i;
    const bool saves = stores() && p_.saved_states && chunk % 2 == 0;
    if (saves) save_state(chunk / 2, part);
    __syncwarp();
    sm90::wgmma_fence();
    sm90::multiply<8, sm90::Major::contraction, sm90::Major::contraction>(
        y, sm90::Rows64{shared_.c[stage]}, sm90::Rows64{shared_.state[part]}, false);
    sm90::wgmma_commit();
    sm90::wgmma_wait<0>();
    if (saves) sm90::wait_stores_read();
    warp_arrive(shared_.state_free[part]);
  }

  __device__ void save_state(int index, int part) const {
    const int row = index * kSsdWidth + column_ + 64 * part, sequence = static_cast<int>(block_.row(p_.in));
    for (int half = 0; half < 2; ++half)
      sm90::store_tile(&maps_.saved, &shared_.state[part][half], 64 * half, row, sequence);
    sm90::commit_stores();
  }

  __device__ static void add_skip(float (&y)[32], const Tile& x, float d_skip) {
    for_each_value<1, 32>(&x, [&](int element, float value) { y[element] += d_skip * value; });
  }

  __device__ void store(const float (&y)[32], int chunk, int part) {
    store_rounded<1>(y, &shared_.y[part]);
    sm90::fence_async_proxy();
    sync();
    if (stores()) {
      sm90::store_tile(&maps_.y, &shared_.y[part], block_.h * kSsdWidth + column_ + 64 * part,
                       chunk * kSsdChunk, block_.b);
      sm90::commit_stores();
    }
    __syncwarp();
  }

  const SsdForwardParams& p_;
  const SsdForwardMaps& maps_;
  const SsdBlock block_;
  Shared& shared_;
  int column_;
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
    shared.init();
    sm90::fence_mbarrier_init();
  }
  __syncthreads();
  constexpr int kShares = 2 / kParts;
  const int index = static_cast<int>(blockIdx.x), first_part = index % kShares * kParts;
  const SsdBlock block(p.in, static_cast<int>(blockIdx.y), index / kShares, static_cast<int>(blockIdx.z));
  // Registers: 640 threads have 96 each to begin with.
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (warpgroup >= kParts + 2) {
    sm90::lower_registers<80>();
    run_forward_loaders<kParts>(p, maps, block, first_part, shared);
  } else if (warpgroup == kParts + 1) {
    sm90::lower_registers<80>();
    run_forward_pairs<kParts>(block, shared);
  } else if (warpgroup == kParts) {
    sm90::lower_registers<80>();
    ForwardOutputs<kParts>(p, maps, block, first_part, shared).run();
  } else {
    sm90::raise_registers<120>();
    run_forward_carry<kParts>(p, block, first_part, warpgroup, shared);
  }
}

}  // namespace transxssm::kernels
