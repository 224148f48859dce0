// The span role of the backward scan: C's gradient, span by span of 128 tokens, each from its saved state.
// Per chunk, with the state S before it:
//   dC = diag(e^s) dY S + dS B,  dS_ij = (dY Xᵀ)_ij e^{s_i − s_j} Δ_j for j ≤ i
// One warpgroup computes, one loads. Nothing is loaded ahead: two blocks on a multiprocessor fill each
// other's waits.
#pragma once

#include "csrc_cuda/ssd/bwd_common.cuh"

namespace transxssm::kernels {

inline constexpr int kSpanInterleave = 2;  // blocks that take a segment's spans in turn

struct SsdSpanShared : SsdBackwardTiles<1> {
  static constexpr int kLoaderThreads = 128;
  Tile state[2][2];  // before the chunk: [column half][row half]
  ChunkScalars scalars[kStages];
  RotationStep rotation_step;
  SsdStage stage[kStages];
  sm90::Mbarrier state_loaded;

  template <class Rotation>
  __device__ void turn(Rotation& rotation, int k) {
    rotation.turn({c[k]->bytes, b[k]->bytes});
  }
};

enum SpanBarrier { kSpanScan = 1, kSpanLoaders };

// The block's spans, in the reverse role's order, so that both find the other's tiles in the L2 cache. A
// row's last span may lack its second chunk; the copies then bring zeros.
struct SpanOrder {
  int spans, last_span;

  __device__ SpanOrder(const SsdBlock& block, int turn) {
    const int first = block.first_chunk / 2;
    last_span = (block.last_chunk + 1) / 2 - 1 - turn;
    spans = (last_span - first) / kSpanInterleave + (last_span >= first ? 1 : 0);
  }
  __device__ int span(int k) const { return max(last_span - kSpanInterleave * k, 0); }
  __device__ int chunk(int i) const { return 2 * span(i / 2) + i % 2; }
};

__device__ inline void run_span_loaders(const SsdBackwardParams& p, const SsdBackwardMaps& maps,
                                        const SsdBlock& block, const SpanOrder& order,
                                        SsdSpanShared& shared) {
  const auto chunk_at = [&](int i) { return order.chunk(i); };
  const auto load = [&](int i, int stage) {
    load_backward_tiles(p, maps, block, order.chunk(i), shared, stage);
    if (i % 2 != 0) return;
    shared.state_loaded.arrive_expecting(4 * sizeof(Tile));
    for (int tile = 0; tile < 4; ++tile)
      sm90::load_tile(&shared.state[tile / 2][tile % 2], &maps.saved, &shared.state_loaded, 64 * (tile / 2),
                      order.span(i / 2) * kSsdWidth + 64 * (tile % 2), static_cast<int>(block.row(p.in)));
  };
  run_loaders(p.in, block, static_cast<int>(threadIdx.x) - 128, kSpanLoaders, 2 * order.spans, shared,
              chunk_at, load);
}

// The rotation of one of a thread's two rows, for turning accumulators [64 tokens × 128] back.
struct RowAngles {
  float2 cos[8], sin[8];

  __device__ RowAngles(const SsdInputs& in, int b, int chunk, int row_half) {
    if (!in.rope_cos) return;
    const int64_t position = in.positions[static_cast<int64_t>(b) * in.tokens] + chunk * kSsdChunk +
                             accumulator_row() + 8 * row_half;
    const int64_t at = min(position, in.rope_rows - 1) * (kSsdWidth / 2) + accumulator_column();
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      cos[k] = __ldg(reinterpret_cast<const float2*>(in.rope_cos + at + 8 * k));
      sin[k] = __ldg(reinterpret_cast<const float2*>(in.rope_sin + at + 8 * k));
    }
  }

  __device__ void turn_back(float (&d)[64], int half) const {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      turn_pair_back(d[4 * k + 2 * half], d[4 * (k + 8) + 2 * half], cos[k].x, sin[k].x);
      turn_pair_back(d[4 * k + 2 * half + 1], d[4 * (k + 8) + 2 * half + 1], cos[k].y, sin[k].y);
    }
  }
};

// dY Xᵀ → dS, in place.
__device__ inline void weigh_scores(float (&scores)[32], const ChunkScalars& scalars) {
  const int row = accumulator_row();
  const float s_i[2] = {scalars.s[row], scalars.s[row + 8]};
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const int column = 8 * k + accumulator_column();
    const float2 s_j = *reinterpret_cast<const float2*>(scalars.s + column);
    const float2 dt = *reinterpret_cast<const float2*>(scalars.dt + column);
    const int2 last = *reinterpret_cast<const int2*>(scalars.last + column);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int i = row + 8 * (e / 2), j = column + e % 2;
      const float decay = pair_decay(s_i[e / 2], e % 2 ? s_j.y : s_j.x, i, j, e % 2 ? last.y : last.x);
      scores[4 * k + e] *= decay * (e % 2 ? dt.y : dt.x);
    }
  }
}

class SpanScan {
 public:
  __device__ SpanScan(const SsdBackwardParams& p, const SsdBackwardMaps& maps, const SsdBlock& block,
                      const SpanOrder& order, SsdSpanShared& shared)
      : p_(p), maps_(maps), block_(block), shared_(shared), order_(order) {}

  __device__ void run() {
    for (int i = 0; i < 2 * order_.spans; ++i) {
      const int chunk = order_.chunk(i);
      shared_.stage[0].wait_ready(i);
      if (i % 2 == 0) shared_.state_loaded.wait(i / 2 % 2);
      store_gradient(chunk);
      if (i % 2 == 0) {
        advance_state(0);
        advance_state(1);
        sm90::fence_async_proxy();
      }
      if (stores()) sm90::wait_stores_read();
      __syncwarp();
      sync();
      if (lane_index() == 0) shared_.stage[0].free.arrive();
      __syncwarp();
    }
  }

 private:
  __device__ static bool stores() { return threadIdx.x == 0; }
  __device__ static void sync() { sm90::named_barrier_sync(kSpanScan, 128); }

  __device__ void store_gradient(int chunk) {
    float d[64];
    make_gradient(d, chunk);
    if (p_.in.rope_cos) {
      RowAngles(p_.in, block_.b, chunk, 0).turn_back(d, 0);
      RowAngles(p_.in, block_.b, chunk, 1).turn_back(d, 1);
    }
    store(d, chunk);
  }

  __device__ void make_gradient(float (&d)[64], int chunk) {
    const ChunkScalars& scalars = shared_.scalars[0];
    float scores[32];
    sm90::wgmma_fence();
    sm90::multiply<8, sm90::Major::contraction, sm90::Major::contraction>(scores, sm90::Rows64{shared_.dy[0]},
                                                                          sm90::Rows64{shared_.x[0]}, false);
    sm90::wgmma_commit();
    sm90::multiply<8, sm90::Major::contraction, sm90::Major::outer>(d, sm90::Rows64{shared_.dy[0]},
                                                                    sm90::Rows128{shared_.state}, false);
    sm90::wgmma_commit();
    sm90::wgmma_wait<1>();
    weigh_scores(scores, scalars);
    uint32_t a[4][4];
#pragma unroll
    for (int step = 0; step < 4; ++step) pack_step(scores, step, a[step]);
    sm90::wgmma_wait<0>();
    scale_rows(d, scalars.from_carry[accumulator_row()], scalars.from_carry[accumulator_row() + 8]);
    write_rows(p_.inter, p_.in, block_, chunk, row_products(shared_.c[0], d));
    sm90::wgmma_fence();
    sm90::multiply<sm90::Major::outer>(d, a, sm90::Rows64{shared_.b[0]}, true);
    sm90::wgmma_commit();
    sm90::wgmma_wait<0>();
  }

  // By way of the chunk's own tiles of C: each warp overwrites the rows that only it has read.
  __device__ void store(const float (&d)[64], int chunk) {
    __syncwarp();
    store_rounded<1>(d, shared_.c[0]);
    sm90::fence_async_proxy();
    sync();
    if (stores()) {
      const int column = d_c_column(p_, block_);
      for (int part = 0; part < 2; ++part)
        sm90::store_tile(&maps_.d_c, &shared_.c[0][part], column + 64 * part, chunk * kSsdChunk, block_.b);
      sm90::commit_stores();
    }
    __syncwarp();
  }

  // Rows [64 part, 64 part + 64) of the state, from before the first chunk to after it. The sync() in store()
  // says that everyone has multiplied by the old one.
  __device__ void advance_state(int part) {
    const ChunkScalars& scalars = shared_.scalars[0];
    float state[64];
    for_each_value<2, 64>(&shared_.state[0][part], [&](int element, float value) { state[element] = value; });
    scale_rows(state, scalars.carry, scalars.carry);
    uint32_t added[4][4];
    load_transposed_scaled(shared_.x[0][part], scalars.added, added);
    sm90::wgmma_fence();
    sm90::multiply<sm90::Major::outer>(state, added, sm90::Rows64{shared_.b[0]}, true);
    sm90::wgmma_commit();
    sm90::wgmma_wait<0>();
    __syncwarp();
    store_rounded<2>(state, &shared_.state[0][part]);
  }

  const SsdBackwardParams& p_;
  const SsdBackwardMaps& maps_;
  const SsdBlock block_;
  SsdSpanShared& shared_;
  const SpanOrder order_;
};

}  // namespace transxssm::kernels
