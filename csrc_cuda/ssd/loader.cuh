// The loading role: copies tiles into pipeline stages, rotates C and B in place, computes the chunk's
// scalars.
#pragma once

#include "csrc_cuda/sm90/tma.cuh"
#include "csrc_cuda/ssd/block.cuh"
#include "csrc_cuda/ssd/chunk_scalars.cuh"
#include "csrc_cuda/ssd/rotation.cuh"
#include "csrc_cuda/ssd/warpgroup_tiles.cuh"

namespace transxssm::kernels {

// One chunk in shared memory.
struct SsdStage {
  sm90::Mbarrier loaded;   // the copies have landed
  sm90::Mbarrier rotated;  // and C and B are turned, the scalars written
  sm90::Mbarrier free;     // nobody reads it any more

  // copies: how many threads announce copies.
  __device__ void init(int loader_threads, int readers, int copies = 1) {
    loaded.init(static_cast<uint32_t>(copies));
    rotated.init(static_cast<uint32_t>(loader_threads));
    free.init(static_cast<uint32_t>(readers));
  }
  // For readers, in the stage's `use`-th use.
  __device__ void wait_ready(int use) {
    loaded.wait(use % 2);
    rotated.wait(use % 2);
  }
};

// Copies `tiles` neighbouring tiles of 64 columns.
__device__ inline void load_tiles(Tile* to, int tiles, const CUtensorMap& map, sm90::Mbarrier& loaded,
                                  int column, int row, int batch) {
  for (int i = 0; i < tiles; ++i) sm90::load_tile(&to[i], &map, &loaded, column + 64 * i, row, batch);
}

// The scalars of chunks, the i-th in the order of work at [i]. More than there are stages, so that a chunk's
// can be computed before a stage is free for its tiles.
template <int kStages>
struct ScalarRing {
  static constexpr int kSlots = kStages < 4 ? 4 : 8;  // a power of two
  ChunkScalars slots[kSlots];
  __device__ ChunkScalars& operator[](int i) { return slots[i % kSlots]; }
};

// Runs kLoaderThreads threads over `chunks` chunks. Shared has stage[k] for k < kStages, scalars, a
// rotation_step, and turn(rotation, i), which rotates what is to be rotated of the i-th chunk. chunk_at(i):
// the i-th chunk in the order of work; load(i, k): announces and queues its copies into stage k; with
// kReadersLoad only of the first chunks, each reader doing so for the next.
template <class Shared, class ChunkAt, class Load>
__device__ void run_loaders(const SsdInputs& in, const SsdBlock& block, int thread, int barrier, int chunks,
                            Shared& shared, const ChunkAt& chunk_at, const Load& load) {
  constexpr int kStages = Shared::kStages, kWarps = Shared::kLoaderThreads / 32;
  const int warp = thread / 32;
  const bool first_lane = thread % 32 == 0;
  Rotation<Shared::kLoaderThreads> rotation(in, block.b, thread, shared.rotation_step, barrier);
  const ScalarWarp scalars(in, block.b, block.h);
  if (thread == 0)
    for (int i = 0; i < min(kStages, chunks); ++i) load(i, i);
  // The warps take turns at the scalars, so that each has some chunks' time for its reads to come.
  ChunkInputs inputs = scalars.load(chunk_at(warp));
  rotation.prepare(chunk_at(0) * kSsdChunk);
  for (int i = 0; i < chunks; ++i) {
    const int stage = i % kStages;
    // Chunk i − 1 has been loaded, so nobody reads what lies more than kStages chunks before it.
    if (warp == i % kWarps) {
      scalars.compute(inputs, shared.scalars[i]);
      inputs = scalars.load(chunk_at(i + kWarps));
    }
    __syncwarp();
    shared.stage[stage].loaded.wait(i / kStages % 2);
    shared.turn(rotation, i);
    rotation.prepare(chunk_at(i + 1) * kSsdChunk);
    sm90::fence_async_proxy();
    shared.stage[stage].rotated.arrive();
    if constexpr (!Shared::kReadersLoad) {
      // The next copies go where the chunk before this one was: waiting for this one would stop the rotation.
      const int released = i - 1, next = released + kStages;
      if (warp == (i + 2) % kWarps && first_lane && released >= 0 && next < chunks) {
        shared.stage[next % kStages].free.wait(released / kStages % 2);
        load(next, next % kStages);
      }
    }
    __syncwarp();
  }
}

}  // namespace transxssm::kernels
