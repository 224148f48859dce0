// What the segments of a row hand to each other, before they are scanned side by side.
//
// Per segment, in f32 and as if it began from zero, over its chunks
//   forward:                             S ← e^{s_end} S + (w ∘ X)ᵀ B
//   backward, the last chunk first:      G ← e^{s_end} G + (e^s ∘ dY)ᵀ C
// and the share of what comes in that is left at the other end. A second kernel chains the segments. What the
// last of them would hand on is not formed.
#pragma once

#include "csrc_cuda/ssd/loader.cuh"
#include "csrc_cuda/ssd/state_registers.cuh"

namespace transxssm::kernels {

struct SsdCarryMaps {
  CUtensorMap packed;  // [B, T, columns]
  CUtensorMap dy;      // [B, T, H·128]
};

struct SsdCarryShared {
  static constexpr int kStages = 4;
  static constexpr int kLoaderThreads = 128;
  static constexpr bool kReadersLoad = false;
  static constexpr int kThreads = 256 + kLoaderThreads;
  Tile rows[kStages][2];     // X or dY
  Tile columns[kStages][2];  // B or C
  ScalarRing<kStages> scalars;
  RotationStep rotation_step;
  SsdStage stage[kStages];

  template <class Rotation>
  __device__ void turn(Rotation& rotation, int i) {
    const int k = i % kStages;
    rotation.turn({columns[k]->bytes});
  }
};

template <bool kBackward>
__device__ int carry_chunk(const SsdBlock& block, int i) {
  return kBackward ? max(block.last_chunk - 1 - i, 0) : block.first_chunk + i;
}

template <bool kBackward>
__device__ void run_carry_loaders(const SsdCarryParams& p, const SsdCarryMaps& maps, const SsdBlock& block,
                                  SsdCarryShared& shared) {
  const auto chunk_at = [&](int i) { return carry_chunk<kBackward>(block, i); };
  const auto load = [&](int i, int stage) {
    SsdStage& s = shared.stage[stage];
    const int row = chunk_at(i) * kSsdChunk;
    s.loaded.arrive_expecting(4 * sizeof(Tile));
    if constexpr (kBackward) {
      load_tiles(shared.rows[stage], 2, maps.dy, s.loaded, block.h * kSsdWidth, row, block.b);
      load_tiles(shared.columns[stage], 2, maps.packed, s.loaded, block.c_column(), row, block.b);
    } else {
      load_tiles(shared.rows[stage], 2, maps.packed, s.loaded, block.x_column(p.in), row, block.b);
      load_tiles(shared.columns[stage], 2, maps.packed, s.loaded, block.b_column(p.in), row, block.b);
    }
  };
  run_loaders(p.in, block, static_cast<int>(threadIdx.x) - 256, 1, block.chunks(), shared, chunk_at, load);
}

// One warpgroup's half of the rows.
template <bool kBackward>
__device__ void run_carry(const SsdCarryParams& p, const SsdBlock& block, SsdCarryShared& shared, int half) {
  float state[64] = {};
  float decay = 1;
  for (int i = 0; i < block.chunks(); ++i) {
    const int k = i % SsdCarryShared::kStages;
    shared.stage[k].wait_ready(i / SsdCarryShared::kStages);
    const ChunkScalars& scalars = shared.scalars[i];
    decay *= scalars.carry;
    scale_rows(state, scalars.carry, scalars.carry);
    uint32_t a[4][4];
    load_transposed_scaled(shared.rows[k][half], kBackward ? scalars.from_carry : scalars.added, a);
    sm90::wgmma_fence();
    sm90::multiply<sm90::Major::outer>(state, a, sm90::Rows64{shared.columns[k]}, true);
    sm90::wgmma_commit();
    sm90::wgmma_wait<0>();
    warp_arrive(shared.stage[k].free);
  }
  const int64_t index = block.row(p.in) * p.in.segments + block.segment;
  write_state(state, p.states, index, 64 * half);
  if (half == 0 && threadIdx.x % 128 == 0) p.decays[index] = decay;
}

// Grid: H, B, segments − 1.
template <bool kBackward>
__global__ void __launch_bounds__(SsdCarryShared::kThreads, 1)
    ssd_carry_kernel(const SsdCarryParams p, const __grid_constant__ SsdCarryMaps maps) {
  extern __shared__ __align__(1024) unsigned char memory[];
  auto& shared = *reinterpret_cast<SsdCarryShared*>(memory);
  if (threadIdx.x == 0) {
    for (SsdStage& stage : shared.stage) stage.init(SsdCarryShared::kLoaderThreads, 8);
    sm90::fence_mbarrier_init();
  }
  __syncthreads();
  const int segment = static_cast<int>(blockIdx.z) + (kBackward ? 1 : 0);
  const SsdBlock block(p.in, static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x), segment);
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (warpgroup == 2)
    run_carry_loaders<kBackward>(p, maps, block, shared);
  else
    run_carry<kBackward>(p, block, shared, warpgroup);
}

// From each segment's own state to what it begins with, in place. A thread takes one pair of columns n, n +
// 64 of one row p through all segments. Grid: 128 · 64 / threads, H, B.
template <bool kBackward>
__global__ void ssd_chain_kernel(const SsdCarryParams p) {
  const int h = static_cast<int>(blockIdx.y), b = static_cast<int>(blockIdx.z);
  const int element = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int column = element % (kSsdWidth / 2), at = element / (kSsdWidth / 2) * kSsdWidth + column;
  const int64_t row = int64_t{b} * p.in.heads + h;
  constexpr int64_t kState = kSsdWidth * kSsdWidth;
  float x = 0, y = 0;
  if (p.outer) {
    x = p.outer[row * kState + at];
    y = p.outer[row * kState + at + kSsdWidth / 2];
    if (kBackward && p.in.rope_cos) FrameTurn(p.in, b, /*back=*/true).turn(x, y, column);
  }
  struct Own {
    float x, y, decay;
  };
  const auto index = [&](int i) { return row * p.in.segments + (kBackward ? p.in.segments - 1 - i : i); };
  const auto read = [&](int i) {
    if (i + 1 >= p.in.segments) return Own{};  // the last one's is not formed
    const float* state = p.states + index(i) * kState + at;
    return Own{state[0], state[kSsdWidth / 2], p.decays[index(i)]};
  };
  Own own = read(0);
  for (int i = 0; i < p.in.segments; ++i) {
    const Own next = read(i + 1);  // before this one is waited for
    float* state = p.states + index(i) * kState + at;
    state[0] = x;
    state[kSsdWidth / 2] = y;
    x = own.decay * x + own.x;
    y = own.decay * y + own.y;
    own = next;
  }
}

}  // namespace transxssm::kernels
