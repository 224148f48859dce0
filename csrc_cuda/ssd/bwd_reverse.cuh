// The reverse role of the backward scan: from a row's last chunk to its first, with the state's gradient G [P
// × N] in registers. With the names of fwd_kernel.cuh, per chunk, G being the gradient of the state after it:
//   W_ij = e^{s_i − s_j} (C Bᵀ)_ij         dS_ij = e^{s_i − s_j} Δ_j (dY Xᵀ)_ij
//   dX = Δ ∘ (to_end ∘ (B Gᵀ) + Wᵀ dY)     dB = (to_end Δ) ∘ (X G) + dSᵀ C
//   G ← e^{s_end} G + (e^s ∘ dY)ᵀ C
// Warpgroups: "inputs" makes dX, "keys" makes dB, each keeps half of G's rows; "pairs" makes W and dS; one
// loads.
#pragma once

#include "csrc_cuda/common/reduce.cuh"
#include "csrc_cuda/ssd/bwd_common.cuh"
#include "csrc_cuda/ssd/state_registers.cuh"

namespace transxssm::kernels {

inline constexpr int kReverseStages = 2;

struct SsdReverseShared : SsdBackwardTiles<kReverseStages> {
  static constexpr int kLoaderThreads = 128;
  Tile gradient[2][2];   // rounded G: [column half][row half]
  Tile weights, scores;  // Wᵀ and dSᵀ, [64 j × 64 i]
  AngleTable angle_table[kStages];
  ScalarRing<kStages> scalars;
  RotationStep rotation_step;
  SsdStage stage[kStages];  // free: the angle table is, through which dB leaves
  sm90::Mbarrier pairs_ready, pairs_free;
  sm90::Mbarrier gradient_read, gradient_written;  // by every warp of both carrying warpgroups
  float gained[4][kSsdChunk], lost[kSsdChunk];     // by s: of each warp's rows, of each row

  template <class Rotation>
  __device__ void turn(Rotation& rotation, int i) {
    const int k = i % kStages;
    if (i >= kStages) stage[k].free.wait((i / kStages - 1) % 2);
    rotation.turn({c[k]->bytes, b[k]->bytes}, angle_table[k]);
  }
};

enum ReverseBarrier { kInputsOnly = 1, kKeysOnly, kPairsOnly, kReverseLoaders };

__device__ inline int reverse_chunk(const SsdBlock& block, int i) { return block.last_chunk - 1 - i; }

// The loaders ask for the first chunks only; "inputs" asks for the others, as soon as their stage is free:
// the loaders would have to turn a chunk first.
__device__ inline void run_reverse_loaders(const SsdBackwardParams& p, const SsdBackwardMaps& maps,
                                           const SsdBlock& block, SsdReverseShared& shared) {
  // The order runs below 0 where reads are ahead of the last chunk: what they bring is not used.
  const auto chunk_at = [&](int i) { return max(reverse_chunk(block, i), 0); };
  const auto load = [&](int i, int stage) {
    load_keys(p, maps, block, chunk_at(i), shared, stage);
    load_values(p, maps, block, chunk_at(i), shared, stage);
  };
  run_loaders(p.in, block, static_cast<int>(threadIdx.x) % 128, kReverseLoaders, block.chunks(), shared,
              chunk_at, load);
}

// Sums over rows of the warp's sixteen: value[2 k + e] belongs to column 8 k + accumulator_column() + e. Each
// lane ends with the sum of one column, which is returned.
__device__ inline int scatter_column_sums(float (&value)[8]) {
#pragma unroll
  for (int bit = 16, width = 4; bit >= 4; bit /= 2, width /= 2) {
    const bool upper = lane_index() & bit;
#pragma unroll
    for (int i = 0; i < width; ++i) {
      const float sent = upper ? value[i] : value[i + width], kept = upper ? value[i + width] : value[i];
      value[i] = kept + __shfl_xor_sync(~0u, sent, bit);
    }
  }
  return lane_index() / 8 * 8 + accumulator_column() + lane_index() / 4 % 2;
}

// Makes Wᵀ and dSᵀ [64 j × 64 i] in two halves of the columns, which keeps registers few.
class ReversePairs {
 public:
  __device__ ReversePairs(const SsdBackwardParams& p, const SsdBlock& block, SsdReverseShared& shared)
      : p_(p), block_(block), shared_(shared) {}

  __device__ void run() {
    for (int i = 0; i < block_.chunks(); ++i) {
      const int stage = i % kReverseStages, chunk = reverse_chunk(block_, i);
      wait_for_tiles(shared_, i);
      float lost[2] = {}, skip[2] = {};
#pragma unroll 1
      for (int half = 0; half < 2; ++half) make_half(half, stage, i, lost, skip);
      sm90::fence_async_proxy();
      shared_.pairs_ready.arrive();
      if (p_.in.d_skip) {
        sum_over_quad(skip);
        write_rows(p_.skip, p_.in, block_, chunk, {skip[0], skip[1]});
      }
      write_sums(lost, chunk);
    }
  }

 private:
  static constexpr int kHalf = kSsdChunk / 2;

  // lost: what s_j of this thread's rows j loses. skip: x_j·dy_j, in one lane of each row.
  __device__ void make_half(int half, int stage, int i, float (&lost)[2], float (&skip)[2]) {
    const int rows = half * kHalf * sm90::kRowBytes;
    float products[16], scores[16];
    sm90::wgmma_fence();
    sm90::multiply<8, sm90::Major::contraction, sm90::Major::contraction>(
        products, sm90::Rows64{shared_.b[stage]}, sm90::Rows64{shared_.c[stage]->bytes + rows}, false);
    sm90::multiply<8, sm90::Major::contraction, sm90::Major::contraction>(
        scores, sm90::Rows64{shared_.x[stage]}, sm90::Rows64{shared_.dy[stage]->bytes + rows}, false);
    sm90::wgmma_commit();
    sm90::wgmma_wait<0>();
    weigh(products, scores, half * kHalf, shared_.scalars[i], lost, skip);
    if (half == 0 && i > 0) shared_.pairs_free.wait((i - 1) % 2);
    store_rounded<1>(products, &shared_.weights, half * kHalf);
    store_rounded<1>(scores, &shared_.scores, half * kHalf);
  }

  // Products B Cᵀ and X dYᵀ, columns i from first_column on → Wᵀ and dSᵀ in place.
  __device__ void weigh(float (&products)[16], float (&scores)[16], int first_column,
                        const ChunkScalars& scalars, float (&lost)[2], float (&skip)[2]) {
    const int row = accumulator_row();
    const float s_j[2] = {scalars.s[row], scalars.s[row + 8]}, dt[2] = {scalars.dt[row], scalars.dt[row + 8]};
    const int last[2] = {scalars.last[row], scalars.last[row + 8]};
    float gained[8] = {};  // by s_i of this thread's columns
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int column = first_column + 8 * k + accumulator_column();
      const float2 s_i = *reinterpret_cast<const float2*>(scalars.s + column);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int j = row + 8 * (e / 2), i = column + e % 2;
        const float decay = pair_decay(e % 2 ? s_i.y : s_i.x, s_j[e / 2], i, j, last[e / 2]);
        float &w = products[4 * k + e], &ds = scores[4 * k + e];
        if (i == j) skip[e / 2] = ds;
        ds *= decay * dt[e / 2];
        // The diagonal has no decay. It would cancel, but swamp the rest where the decay is steep.
        const float through_decay = i == j ? 0.f : w * ds;
        w *= decay;
        gained[2 * k + e % 2] += through_decay;
        lost[e / 2] += through_decay;
      }
    }
    const int column = scatter_column_sums(gained);
    shared_.gained[warp_in_group()][first_column + column] = gained[0];
  }

  __device__ void write_sums(float (&lost)[2], int chunk) {
    sum_over_quad(lost);
    if (lane_index() % 4 == 0) {
      shared_.lost[accumulator_row()] = lost[0];
      shared_.lost[accumulator_row() + 8] = lost[1];
    }
    sm90::named_barrier_sync(kPairsOnly, 128);
    const int t = static_cast<int>(threadIdx.x) % 128, token = chunk * kSsdChunk + t;
    if (t < kSsdChunk && token < p_.in.tokens) {
      float total = -shared_.lost[t];
      for (const auto& of_warp : shared_.gained) total += of_warp[t];
      p_.pairs[block_.row(p_.in) * p_.in.tokens + token] = total;
    }
    sm90::named_barrier_sync(kPairsOnly, 128);  // before the next chunk's sums
  }

  const SsdBackwardParams& p_;
  const SsdBlock block_;
  SsdReverseShared& shared_;
};

// "inputs" (kInputs) or "keys": one of the two gradients and half of G.
template <bool kInputs>
class ReverseScan {
 public:
  __device__ ReverseScan(const SsdBackwardParams& p, const SsdBackwardMaps& maps, const SsdBlock& block,
                         SsdReverseShared& shared)
      : p_(p), maps_(maps), block_(block), shared_(shared) {}

  __device__ void run() {
    float gradient[64];  // rows [64 kHalf, 64 kHalf + 64) of G
    load_gradient(gradient);
    if (is_first_of_anchor(block_.last_chunk - 1)) write_anchor(gradient, block_.last_chunk - 1);
    publish(gradient);
    for (int i = 0; i < block_.chunks(); ++i) {
      const int stage = i % kReverseStages, chunk = reverse_chunk(block_, i);
      wait_for_tiles(shared_, i);
      const ChunkScalars& scalars = shared_.scalars[i];
      if (is_first_of_anchor(chunk - 2)) prefetch_anchor(chunk - 2);
      add_outputs(gradient, scalars, stage);
      if (!kInputs && i > 0 && stores()) release_table(1 - stage);
      __syncwarp();
      shared_.gradient_written.wait(i % 2);
      float d[64];
      multiply_by_gradient(d, stage);
      sm90::wgmma_wait<0>();
      arrive(shared_.gradient_read);
      weigh_later(d, scalars, stage, chunk);
      if (is_first_of_anchor(chunk - 1)) write_anchor(gradient, chunk - 1);  // while the pairs are made
      shared_.pairs_ready.wait(i % 2);
      multiply_by_pairs(d, stage);
      shared_.gradient_read.wait(i % 2);  // everyone's, of the old copy
      publish(gradient);
      sm90::wgmma_wait<0>();
      arrive(shared_.pairs_free);
      if (kInputs && stores() && i + kReverseStages < block_.chunks()) {
        shared_.pairs_free.wait(i % 2);
        load_keys(p_, maps_, block_, reverse_chunk(block_, i + kReverseStages), shared_, stage);
      }
      __syncwarp();
      if constexpr (kInputs)
        finish_inputs(d, scalars, stage, chunk);
      else if (p_.in.rope_cos)
        shared_.angle_table[stage].turn_back(d);
      store(d, stage, i);
    }
    if (block_.segment == 0 && p_.d_initial_state)
      write_state(gradient, p_.d_initial_state, block_.row(p_.in), 64 * kHalf);
    if (stores()) sm90::wait_stores_read();
  }

 private:
  static constexpr int kHalf = kInputs ? 0 : 1;

  __device__ static bool stores() { return threadIdx.x % 128 == 0; }
  __device__ static void sync_own() { sm90::named_barrier_sync(kInputs ? kInputsOnly : kKeysOnly, 128); }

  __device__ void load_gradient(float (&gradient)[64]) const {
    const int64_t row = block_.row(p_.in);
    if (p_.in.segments > 1) {
      read_state(gradient, p_.segment_gradients, row * p_.in.segments + block_.segment, 64 * kHalf);
    } else {
      read_state(gradient, p_.final_gradient, row, 64 * kHalf);
      if (p_.final_gradient) turn_to_absolute(gradient, p_.in, block_.b, true);
    }
  }

  __device__ static void arrive(sm90::Mbarrier& barrier) {
    __syncwarp();
    if (lane_index() == 0) barrier.arrive();
    __syncwarp();
  }

  // This half's rounded copy, for everyone.
  __device__ void publish(const float (&gradient)[64]) {
    store_rounded<2>(gradient, &shared_.gradient[0][kHalf]);
    sm90::fence_async_proxy();
    arrive(shared_.gradient_written);
  }

  // G ← e^{s_end} G + (e^s ∘ dY)ᵀ C. Done before the other products begin: its operand's registers are needed
  // again.
  __device__ void add_outputs(float (&gradient)[64], const ChunkScalars& scalars, int stage) {
    scale_rows(gradient, scalars.carry, scalars.carry);
    uint32_t outputs[4][4];
    load_transposed_scaled(shared_.dy[stage][kHalf], scalars.from_carry, outputs);
    sm90::wgmma_fence();
    sm90::multiply<sm90::Major::outer>(gradient, outputs, sm90::Rows64{shared_.c[stage]}, true);
    sm90::wgmma_commit();
    sm90::wgmma_wait<0>();
  }

  // d = B Gᵀ or X G, queued.
  __device__ void multiply_by_gradient(float (&d)[64], int stage) {
    sm90::wgmma_fence();
    if constexpr (kInputs)
      sm90::multiply<8, sm90::Major::contraction, sm90::Major::contraction>(
          d, sm90::Rows64{shared_.b[stage]}, sm90::Rows128{shared_.gradient}, false);
    else
      sm90::multiply<8, sm90::Major::contraction, sm90::Major::outer>(d, sm90::Rows64{shared_.x[stage]},
                                                                      sm90::Rows128{shared_.gradient}, false);
    sm90::wgmma_commit();
  }

  // d += Wᵀ dY or dSᵀ C, queued.
  __device__ void multiply_by_pairs(float (&d)[64], int stage) {
    const Tile* pairs = kInputs ? &shared_.weights : &shared_.scores;
    const Tile* values = kInputs ? shared_.dy[stage] : shared_.c[stage];
    sm90::wgmma_fence();
    sm90::multiply<4, sm90::Major::contraction, sm90::Major::outer>(d, sm90::Rows64{pairs},
                                                                    sm90::Rows64{values}, true);
    sm90::wgmma_commit();
  }

  // Weighs what comes through the state after the chunk.
  __device__ void weigh_later(float (&d)[64], const ChunkScalars& scalars, int stage, int chunk) {
    const int row = accumulator_row();
    if constexpr (kInputs) {
      scale_rows(d, scalars.to_end[row], scalars.to_end[row + 8]);
      const float2 products = row_products(shared_.x[stage], d);
      write_rows(p_.added, p_.in, block_, chunk,
                 {products.x * scalars.dt[row], products.y * scalars.dt[row + 8]});
    } else {
      scale_rows(d, scalars.added[row], scalars.added[row + 8]);
    }
  }

  // d: gradient of Δ X. → dX, and Δ's own share.
  __device__ void finish_inputs(float (&d)[64], const ChunkScalars& scalars, int stage, int chunk) {
    const int row = accumulator_row();
    write_rows(p_.direct, p_.in, block_, chunk, row_products(shared_.x[stage], d));
    scale_rows(d, scalars.dt[row], scalars.dt[row + 8]);
    if (!p_.in.d_skip) return;
    const float skip = p_.in.d_skip[block_.h];
    for_each_value<1, 64>(shared_.dy[stage], [&](int element, float value) { d[element] += skip * value; });
  }

  // dX by way of X's tiles, which nobody reads any more; dB by way of its angles, which keep no copy waiting.
  __device__ void store(const float (&d)[64], int stage, int i) {
    static_assert(sizeof(AngleTable) == 2 * sizeof(Tile));
    Tile* staging = kInputs ? shared_.x[stage] : reinterpret_cast<Tile*>(shared_.angle_table[stage].bytes);
    if constexpr (kInputs)
      __syncwarp();  // what a warp overwrites, only it has read
    else
      sync_own();
    store_rounded<1>(d, staging);
    sm90::fence_async_proxy();
    sync_own();
    if (stores()) {
      const CUtensorMap& map = kInputs ? maps_.d_packed : maps_.d_b;
      const int column = kInputs ? block_.x_column(p_.in) : d_b_column(p_, block_);
      const int row = reverse_chunk(block_, i) * kSsdChunk;
      for (int half = 0; half < 2; ++half)
        sm90::store_tile(&map, &staging[half], column + 64 * half, row, block_.b);
      sm90::commit_stores();
      if (kInputs && i + kReverseStages < block_.chunks()) {
        sm90::wait_stores_read();
        load_values(p_, maps_, block_, reverse_chunk(block_, i + kReverseStages), shared_, stage);
      }
    }
    __syncwarp();
  }

  // Gives a chunk's angles back to the loaders once the copy engine has read its gradients.
  __device__ void release_table(int stage) {
    sm90::wait_stores_read();
    shared_.stage[stage].free.arrive();
  }

  __device__ static bool is_first_of_anchor(int chunk) {
    return chunk >= 0 && chunk * kSsdChunk % kSsdTokensPerAnchor == 0;
  }

  // Of the saved state before a chunk, this warpgroup's rows.
  __device__ const __nv_bfloat16* saved_rows(int chunk) const {
    const int spans = (p_.in.tokens + kSsdTokensPerState - 1) / kSsdTokensPerState;
    const int64_t state =
        static_cast<int>(block_.row(p_.in)) * spans + chunk * kSsdChunk / kSsdTokensPerState;
    return static_cast<const __nv_bfloat16*>(p_.saved_states) + (state * kSsdWidth + 64 * kHalf) * kSsdWidth;
  }

  // Brings what write_anchor will read nearer, a cache line a thread: its latency would hold everyone up.
  __device__ void prefetch_anchor(int chunk) const {
    const auto* line = reinterpret_cast<const unsigned char*>(saved_rows(chunk)) + threadIdx.x % 128 * 128;
    asm volatile("prefetch.global.L2 [%0];" ::"l"(line));
  }

  // <state before the chunk, gradient of the state after it>, this warp's part. In f32: G's rounded copy is
  // not accurate enough where the decay is steep.
  __device__ void write_anchor(const float (&gradient)[64], int chunk) const {
    const int anchors = (p_.in.tokens + kSsdTokensPerAnchor - 1) / kSsdTokensPerAnchor;
    const int index = static_cast<int>(block_.row(p_.in)) * anchors + chunk * kSsdChunk / kSsdTokensPerAnchor;
    const __nv_bfloat16* saved = saved_rows(chunk) + accumulator_row() * kSsdWidth + accumulator_column();
    constexpr int kAtOnce = 16;
    float sum = 0;
#pragma unroll
    for (int first = 0; first < 32; first += kAtOnce) {
      uint32_t pairs[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int k = first + i;
        pairs[i] = __ldg(reinterpret_cast<const uint32_t*>(saved + 8 * (k % 2) * kSsdWidth + 8 * (k / 2)));
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i)
        sum += sm90::low_half(pairs[i]) * gradient[2 * (first + i)] +
               sm90::high_half(pairs[i]) * gradient[2 * (first + i) + 1];
    }
    sum = warp_sum(sum);
    if (lane_index() == 0) p_.anchors[index * kSsdAnchorParts + 4 * kHalf + warp_in_group()] = sum;
  }

  const SsdBackwardParams& p_;
  const SsdBackwardMaps& maps_;
  const SsdBlock block_;
  SsdReverseShared& shared_;
};

}  // namespace transxssm::kernels
