// The span role of the backward scan: C's gradient, span by span of two chunks, from the saved state S before
// it. With a span's earlier chunk A and later chunk B, and dS_ij = (dY Xᵀ)_ij e^{s_i − s_j} Δ_j for j ≤ i of
// one chunk:
//   dC_A = diag(e^s) dY_A S + dS_A B_A
//   dC_B = diag(e^s) (e^{s_end of A} dY_B S + (dY_B X_Aᵀ) diag(w_A) B_A) + dS_B B_B
// w as in the forward scan. Nothing passes from one chunk's warpgroup to the other's.
#pragma once

#include "csrc_cuda/ssd/bwd_common.cuh"

namespace transxssm::kernels {

enum SpanBarrier { kSpanLoaders = 1, kSpanScans };  // one more for the other scan

struct SsdSpanShared : SsdBackwardTiles<2> {  // stage 0: the earlier chunk, 1: the later one
  static constexpr int kLoaderThreads = 256;
  Tile state[2][2];  // [column half][row half]
  AngleTable angle_table[kStages];
  ScalarRing<kStages> scalars;
  RotationStep rotation_step;
  SsdStage stage[kStages];
  sm90::Mbarrier state_loaded, state_free;

  __device__ void init() {
    constexpr int kWarps = 4;  // of a warpgroup
    stage[0].init(kLoaderThreads, 2 * kWarps, kBackwardMatrices / 2);
    stage[1].init(kLoaderThreads, kWarps, kBackwardMatrices / 2);
    init_values();
    state_loaded.init(1);
    state_free.init(2 * kWarps);
  }
  template <class Rotation>
  __device__ void turn(Rotation& rotation, int i) {
    const int k = i % kStages;
    rotation.turn({c[k]->bytes, b[k]->bytes}, angle_table[k]);
  }
};

// The block's spans, in the reverse role's order, so that both find the other's tiles in the L2 cache. A
// row's last span may lack its later chunk; the copies then bring zeros.
struct SpanOrder {
  int last_span, spans;

  // The last dimension of the grid counts the blocks of a row.
  __device__ explicit SpanOrder(const SsdInputs& in) {
    const int blocks = static_cast<int>(gridDim.z), index = static_cast<int>(blockIdx.z);
    const int of_block = (row_spans(in) + blocks - 1) / blocks;
    last_span = row_spans(in) - 1 - of_block * index;
    spans = min(of_block, last_span + 1);
  }
  __device__ int span(int k) const { return max(last_span - k, 0); }
  __device__ int chunk(int i) const { return kSsdChunksPerSpan * span(i / 2) + i % 2; }
};

// Only which row it is matters here.
__device__ inline SsdBlock span_row(const SsdInputs& in) {
  return {in, static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x), 0};
}

// Announces and queues the copies of the k-th span's earlier (stage 0) or later chunk; the state comes with
// the earlier one.
__device__ inline void load_span(const SsdBackwardParams& p, const SsdBackwardMaps& maps,
                                 const SsdBlock& block, const SpanOrder& order, int k, int stage,
                                 SsdSpanShared& shared) {
  load_chunk(p, maps, block, order.chunk(2 * k + stage), shared, stage);
  if (stage != 0) return;
  shared.state_loaded.arrive_expecting(4 * sizeof(Tile));
  for (int tile = 0; tile < 4; ++tile)
    sm90::load_tile(&shared.state[tile / 2][tile % 2], &maps.saved, &shared.state_loaded, 64 * (tile / 2),
                    order.span(k) * kSsdWidth + 64 * (tile % 2), static_cast<int>(block.row(p.in)));
}

__device__ inline void run_span_loaders(const SsdBackwardParams& p, const SsdBackwardMaps& maps,
                                        SsdSpanShared& shared, int thread) {
  const SsdBlock block = span_row(p.in);
  const SpanOrder order(p.in);
  const auto chunk_at = [&](int i) { return order.chunk(i); };
  const auto load = [&](int i, int stage) { load_span(p, maps, block, order, i / 2, stage, shared); };
  run_loaders(p.in, block, thread, kSpanLoaders, 2 * order.spans, shared, chunk_at, load);
}

// dY Xᵀ → dS, in place.
__device__ inline void weigh_scores(float (&scores)[32], const ChunkScalars& scalars) {
  const int row = accumulator_row_anew();
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

// One warpgroup: dC of the spans' earlier (stage 0) or later (1) chunks.
class SpanScan {
 public:
  __device__ SpanScan(const SsdBackwardParams& p, const SsdBackwardMaps& maps, SsdSpanShared& shared,
                      int stage)
      : p_(p), maps_(maps), block_(span_row(p.in)), order_(p.in), shared_(shared), stage_(stage) {}

  __device__ void run() {
    for (int k = 0; k < order_.spans; ++k) {
      wait_for_tiles(shared_, 2 * k);
      if (is_later()) wait_for_tiles(shared_, 2 * k + 1);
      shared_.state_loaded.wait(k % 2);
      float d[64], scores[32];
      queue_state(d);
      if (is_later()) pass_earlier_chunk(d, shared_.scalars[2 * k]);
      queue_scores(scores, stage());
      sm90::wgmma_wait<1>();
      if (is_later()) warp_arrive(shared_.stage[0].free);
      warp_arrive(shared_.state_free);
      finish(d, scores, k);
    }
  }

 private:
  // Anew, lest every address that follows from it stays in a register.
  __device__ int stage() const { return computed_anew(stage_); }
  __device__ bool is_later() const { return stage() == 1; }

  // scores = dY Xᵀ with the inputs of chunk `of`.
  __device__ void queue_scores(float (&scores)[32], int of) {
    sm90::wgmma_fence();
    sm90::multiply<8, sm90::Major::contraction, sm90::Major::contraction>(
        scores, sm90::Rows64{shared_.dy[stage()]}, sm90::Rows64{shared_.x[of]}, false);
    sm90::wgmma_commit();
  }
  // d = dY S.
  __device__ void queue_state(float (&d)[64]) {
    sm90::wgmma_fence();
    sm90::multiply<8, sm90::Major::contraction, sm90::Major::outer>(d, sm90::Rows64{shared_.dy[stage()]},
                                                                    sm90::Rows128{shared_.state}, false);
    sm90::wgmma_commit();
  }

  // d ← e^{s_end of A} d + scores diag(w_A) B_A.
  __device__ void pass_earlier_chunk(float (&d)[64], const ChunkScalars& earlier) {
    float scores[32];
    queue_scores(scores, 0);
    sm90::wgmma_wait<0>();
    scale_rows(d, earlier.carry, earlier.carry);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float2 w = *reinterpret_cast<const float2*>(earlier.added + 8 * i + accumulator_column());
#pragma unroll
      for (int e = 0; e < 4; ++e) scores[4 * i + e] *= e % 2 ? w.y : w.x;
    }
    uint32_t a[4][4];
#pragma unroll
    for (int step = 0; step < 4; ++step) pack_step(scores, step, a[step]);
    sm90::wgmma_fence();
    sm90::multiply<sm90::Major::outer>(d, a, sm90::Rows64{shared_.b[0]}, true);
    sm90::wgmma_commit();
    sm90::wgmma_wait<0>();
  }

  // d: the state's share without diag(e^s), scores: on their way. → dC.
  __device__ void finish(float (&d)[64], float (&scores)[32], int k) {
    const int chunk = order_.chunk(2 * k + stage());
    const ChunkScalars& scalars = shared_.scalars[2 * k + stage()];
    const int row = accumulator_row_anew();
    scale_rows(d, scalars.from_carry[row], scalars.from_carry[row + 8]);
    write_rows(p_.inter, p_.in, block_, chunk, row_products(shared_.c[stage()], d));
    sm90::wgmma_wait<0>();
    weigh_scores(scores, scalars);
    uint32_t a[4][4];
#pragma unroll
    for (int step = 0; step < 4; ++step) pack_step(scores, step, a[step]);
    sm90::wgmma_fence();
    sm90::multiply<sm90::Major::outer>(d, a, sm90::Rows64{shared_.b[stage()]}, true);
    sm90::wgmma_commit();
    sm90::wgmma_wait<0>();
    if (p_.in.rope_cos) shared_.angle_table[stage()].turn_back(d);
    store(d, k);
  }

  // By way of C's tiles, which nobody reads any more. Then asks for the next span's: the loaders would have
  // to turn the earlier chunk before they ask for the later one.
  __device__ void store(const float (&d)[64], int k) {
    Tile* staging = shared_.c[stage()];
    store_rounded<1>(d, staging);
    sm90::fence_async_proxy();
    sm90::named_barrier_sync(kSpanScans + stage(), 128);
    if (warp_in_group() != 0 && lane_index() == 0) shared_.stage[stage()].free.arrive();
    if (threadIdx.x % 128 == 0) {
      const int row = order_.chunk(2 * k + stage()) * kSsdChunk;
      for (int half = 0; half < 2; ++half)
        sm90::store_tile(&maps_.d_c, &staging[half], d_c_column(p_, block_) + 64 * half, row, block_.b);
      sm90::commit_stores();
      sm90::wait_stores_read();
      shared_.stage[stage()].free.arrive();
      if (k + 1 < order_.spans) {
        shared_.stage[stage()].free.wait(k % 2);
        if (stage() == 0) shared_.state_free.wait(k % 2);
        load_span(p_, maps_, block_, order_, k + 1, stage(), shared_);
      }
    }
    __syncwarp();
  }

  const SsdBackwardParams& p_;
  const SsdBackwardMaps& maps_;
  const SsdBlock block_;
  const SpanOrder order_;
  SsdSpanShared& shared_;
  const int stage_;
};

}  // namespace transxssm::kernels
