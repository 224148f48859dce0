// Helpers of the backward scan's reverse role (bwd_reverse.cuh): they turn C and B and weigh the pairs of
// tokens. And what all of that role's warpgroups share.
#pragma once

#include "csrc_cuda/common/reduce.cuh"
#include "csrc_cuda/ssd/bwd_common.cuh"
#include "csrc_cuda/ssd/state_registers.cuh"

namespace transxssm::kernels {

inline constexpr int kReverseStages = 2;

// Room for 16 rows of 32 columns, through which a warp turns accumulators into 16-byte pieces.
inline constexpr int kStagingBytes = 1024;

struct SsdReverseShared : SsdBackwardTiles<kReverseStages> {
  static constexpr int kLoaderThreads = 256;
  Tile gradient[2][2];   // rounded G: [column half][row half]
  Tile weights, scores;  // Mᵀ and dSᵀ, [64 j × 64 i]
  AngleTable angle_table[kStages];
  ScalarRing<kStages> scalars;
  RotationStep rotation_step;
  SsdStage stage[kStages];                               // free: the angle table is, through which dB leaves
  alignas(128) unsigned char leaving[4][kStagingBytes];  // dX on its way out, a warp's
  sm90::Mbarrier pairs_ready, pairs_free;
  sm90::Mbarrier gradient_read, gradient_written;  // by every warp of both carrying warpgroups
  float gained[4][kSsdChunk];                      // of a helper's four warps, by i
  float lost[2][kSsdChunk];                        // of each helper, by j
  float2 diagonal[kSsdChunk];                      // of M ∘ dY Xᵀ without Δ, and of dY Xᵀ

  __device__ void init() {
    constexpr int kWarps = 4;  // of a warpgroup
    for (SsdStage& s : stage) s.init(kLoaderThreads, kWarps, kBackwardMatrices / 2);
    init_values();
    pairs_ready.init(kLoaderThreads);
    pairs_free.init(2 * kWarps);
    gradient_read.init(2 * kWarps);
    gradient_written.init(2 * kWarps);
  }
  template <class Rotation>
  __device__ void turn(Rotation& rotation, int i) {
    const int k = i % kStages;
    if (i >= kStages) stage[k].free.wait((i / kStages - 1) % 2);
    rotation.turn({c[k]->bytes, b[k]->bytes}, angle_table[k]);
  }
};

inline constexpr int kReverseHelpers = 1;  // a named barrier

__device__ inline int reverse_chunk(const SsdBlock& block, int i) { return block.last_chunk - 1 - i; }

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
  const int lane = computed_anew(lane_index());
  return lane / 8 * 8 + 2 * (lane % 4) + lane / 4 % 2;
}

// One of two warpgroups that turn C and B together, then make half of the columns i of Mᵀ and dSᵀ [64 j × 64
// i] each.
class ReverseHelper {
 public:
  __device__ ReverseHelper(const SsdBackwardParams& p, const SsdBlock& block, SsdReverseShared& shared,
                           int thread)
      : p_(p), block_(block), shared_(shared), thread_(thread), half_(thread / 128) {}

  // Asks for the first chunks' tiles; "keys" asks for the others, as soon as their stage is free: here it
  // would take as long as a chunk's pairs.
  __device__ void run(const SsdBackwardMaps& maps) {
    if (thread_ == 0) {
      for (int i = 0; i < min(kReverseStages, block_.chunks()); ++i)
        load_chunk(p_, maps, block_, reverse_chunk(block_, i), shared_, i);
    }
    if (has_later_rows_only()) clear_unreached();
    if (thread_ / 32 == kScalarWarp) compute_scalars(0);
    __syncwarp();
    Rotation<256> rotation(p_.in, block_.b, thread_, shared_.rotation_step, kReverseHelpers);
    rotation.prepare(reverse_chunk(block_, 0) * kSsdChunk);
    for (int i = 0; i < block_.chunks(); ++i) {
      const int stage = i % kReverseStages;
      shared_.stage[stage].loaded.wait(i / kReverseStages % 2);
      shared_.turn(rotation, i);
      sm90::fence_async_proxy();
      shared_.stage[stage].rotated.arrive();
      make_pairs(i);
      rotation.prepare(max(reverse_chunk(block_, i + 1), 0) * kSsdChunk);  // read while the sums are written
      write_sums(shared_.scalars[i], reverse_chunk(block_, i));
    }
  }

 private:
  static constexpr int kHalf = kSsdChunk / 2, kScalarWarp = 2;

  // No row j ≥ 32 reaches a column i < 32: those warps compute the next chunk's scalars instead.
  __device__ bool has_later_rows_only() const { return half_ == 0 && warp_in_group() >= 2; }

  __device__ void make_pairs(int i) {
    const int stage = i % kReverseStages, first_column = computed_anew(half_ * kHalf);
    const int rows = first_column * sm90::kRowBytes;
    wait_for_tiles(shared_, i);
    float products[16], scores[16];
    sm90::wgmma_fence();
    sm90::multiply<8, sm90::Major::contraction, sm90::Major::contraction>(
        products, sm90::Rows64{shared_.b[stage]}, sm90::Rows64{shared_.c[stage]->bytes + rows}, false);
    sm90::multiply<8, sm90::Major::contraction, sm90::Major::contraction>(
        scores, sm90::Rows64{shared_.x[stage]}, sm90::Rows64{shared_.dy[stage]->bytes + rows}, false);
    sm90::wgmma_commit();
    sm90::wgmma_wait<0>();
    if (has_later_rows_only()) {
      if (thread_ / 32 == kScalarWarp && i + 1 < block_.chunks()) compute_scalars(i + 1);
    } else {
      weigh(products, scores, shared_.scalars[i], first_column);
      if (i > 0) shared_.pairs_free.wait((i - 1) % 2);
      store_rounded<1>(products, &shared_.weights, first_column);
      store_rounded<1>(scores, &shared_.scores, first_column);
      sm90::fence_async_proxy();
    }
    shared_.pairs_ready.arrive();
  }

  // Chunk i − 1 has been loaded, so nobody reads those of chunk i − 3 and before.
  __device__ void compute_scalars(int i) {
    const ScalarWarp scalars(p_.in, block_.b, block_.h);
    scalars.compute(scalars.load(reverse_chunk(block_, i)), shared_.scalars[i]);
  }

  // What those warps would write for every chunk.
  __device__ void clear_unreached() {
    const float nothing[16] = {};
    store_rounded<1>(nothing, &shared_.weights);
    store_rounded<1>(nothing, &shared_.scores);
    sm90::fence_async_proxy();
    shared_.gained[warp_in_group()][lane_index()] = 0;
    shared_.lost[0][kHalf + 16 * (warp_in_group() - 2) + lane_index() % 16] = 0;
  }

  // Products B Cᵀ and X dYᵀ → Mᵀ and dSᵀ in place. Leaves in shared memory, with M ∘ dY Xᵀ, what s_i of its
  // columns gain and, without Δ_j, what s_j of its rows loses.
  __device__ void weigh(float (&products)[16], float (&scores)[16], const ChunkScalars& scalars,
                        int first_column) {
    const int row = accumulator_row_anew();
    const float s_j[2] = {scalars.s[row], scalars.s[row + 8]}, dt[2] = {scalars.dt[row], scalars.dt[row + 8]};
    const int last[2] = {scalars.last[row], scalars.last[row + 8]};
    float gained[8] = {}, lost[2] = {};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int column = first_column + 8 * k + accumulator_column();
      const float2 s_i = *reinterpret_cast<const float2*>(scalars.s + column);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int j = row + 8 * (e / 2), i = column + e % 2;
        const float decay = pair_decay(e % 2 ? s_i.y : s_i.x, s_j[e / 2], i, j, last[e / 2]);
        float &w = products[4 * k + e], &ds = scores[4 * k + e];
        const float weight = decay * dt[e / 2];
        // The diagonal has no decay. It would cancel, but swamp the rest where the decay is steep.
        const float through = w * decay * ds, through_decay = i == j ? 0.f : through;
        if (i == j) shared_.diagonal[j] = {through, ds};
        w *= weight;
        ds *= weight;
        gained[2 * k + e % 2] += through_decay * dt[e / 2];
        lost[e / 2] += through_decay;
      }
    }
    const int column = scatter_column_sums(gained);
    shared_.gained[warp_in_group()][first_column + column] = gained[0];
    sum_over_quad(lost);
    if (lane_index() % 4 != 0) return;
    shared_.lost[half_][row] = lost[0];
    shared_.lost[half_][row + 8] = lost[1];
  }

  __device__ void write_sums(const ChunkScalars& scalars, int chunk) {
    sm90::named_barrier_sync(kReverseHelpers, 256);
    const int t = thread_of_group_anew(), token = chunk * kSsdChunk + t;
    if (half_ == 0 && t < kSsdChunk && token < p_.in.tokens) {
      const float lost = shared_.lost[0][t] + shared_.lost[1][t];
      float total = -scalars.dt[t] * lost;
      for (const auto& of_warp : shared_.gained) total += of_warp[t];
      const int at = static_cast<int>(block_.row(p_.in)) * p_.in.tokens + token;
      p_.pairs[at] = total;
      p_.direct[at] = lost + shared_.diagonal[t].x;
      if (p_.in.d_skip) p_.skip[at] = shared_.diagonal[t].y;
    }
    sm90::named_barrier_sync(kReverseHelpers, 256);  // before the next chunk's sums
  }

  const SsdBackwardParams& p_;
  const SsdBlock block_;
  SsdReverseShared& shared_;
  const int thread_, half_;
};

}  // namespace transxssm::kernels
