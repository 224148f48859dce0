// The last part of the backward scan: from what the two roles wrote by token to the gradients of τ, A_log,
// dt_bias, D.
//
// The gradient of a token's log-decay is that of every pair (j, i) it lies between, j < t ≤ i. In a chunk:
// later pairs and outputs (i ≥ t, from inside and from the incoming state), earlier tokens' shares of the
// final state (j < t), and <S, G> e^{s_end} for what passes through. All sums stay inside t's document.
#pragma once

#include "csrc_cuda/common/reduce.cuh"
#include "csrc_cuda/sm90/mbarrier.cuh"
#include "csrc_cuda/ssd/block.cuh"
#include "csrc_cuda/ssd/chunk_scalars.cuh"

namespace transxssm::kernels {

inline constexpr int kFinishWarps = 4;

// For tokens `lane + 32 i`: sums from each token to the last of its span.
__device__ inline void sum_later(float (&value)[2], const int (&last)[2], int lane) {
  float beyond = 0;  // of the upper half's first token
#pragma unroll
  for (int i = 1; i >= 0; --i) {
    const int last_here = min(last[i] - 32 * i, 31);
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const float above = __shfl_down_sync(~0u, value[i], distance);
      if (lane + distance <= last_here) value[i] += above;
    }
    if (last[i] - 32 * i > 31) value[i] += beyond;
    beyond = __shfl_sync(~0u, value[i], 0);
  }
}

// Sums of all tokens before each; returns the sum of all.
__device__ inline float sum_earlier(float (&value)[2], int lane) {
  float before = 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float sum = value[i];
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const float below = __shfl_up_sync(~0u, sum, distance);
      if (lane >= distance) sum += below;
    }
    const float exclusive = __shfl_up_sync(~0u, sum, 1);
    value[i] = before + (lane > 0 ? exclusive : 0.f);
    before += __shfl_sync(~0u, sum, 31);
  }
  return before;
}

struct SsdSums {
  float a_log = 0, dt_bias = 0, d_skip = 0;
};

class FinishWarp {
 public:
  __device__ FinishWarp(const SsdBackwardParams& p, const SsdBlock& block, ChunkScalars& scalars)
      : p_(p), block_(block), scalars_(scalars), warp_(p.in, block.b, block.h) {}

  __device__ void finish(int span, SsdSums& sums) {
    constexpr int kChunks = kSsdChunksPerSpan;
    const float* parts = p_.anchors + (block_.row(p_.in) * row_spans(p_.in) + span) * kSsdAnchorParts;
    float reach = 0;  // <state before the first chunk, gradient of the state after it>
#pragma unroll
    for (int i = 0; i < kSsdAnchorParts; ++i) reach += parts[i];
    ChunkInputs inputs[kChunks];
    Terms terms[kChunks];
#pragma unroll
    for (int k = 0; k < kChunks; ++k) {  // all reads on their way before the first is waited for
      inputs[k] = warp_.load(kChunks * span + k);
      terms[k] = read(kChunks * span + k);
    }
    float incoming = 0;  // <state before the chunk, its gradient>, from the second chunk on
#pragma unroll
    for (int k = 0; k < kChunks; ++k) {
      const int chunk = kChunks * span + k;
      const Terms& t = terms[k];
      __syncwarp();
      const uint64_t starts = warp_.compute(inputs[k], scalars_);
      __syncwarp();
      // What passes through the chunk, and after it what the chunk has added too: <state, its gradient>
      // again. A difference has the error of what it was taken from, which would drown a small share.
      constexpr float kNothingLeft = 1.f / 512;
      const float carry = scalars_.carry, left = incoming - warp_sum(t.inter[0] + t.inter[1]);
      const float through = k == 0 ? carry * reach : carry < kNothingLeft ? 0.f : left;
      const int last[2] = {scalars_.last[lane()], scalars_.last[lane() + 32]};
      float da[2] = {t.pairs[0] + t.inter[0], t.pairs[1] + t.inter[1]};
      sum_later(da, last, lane());
      float earlier[2] = {t.added[0] * scalars_.dt[lane()], t.added[1] * scalars_.dt[lane() + 32]};
      incoming = through + sum_earlier(earlier, lane());
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const bool alone = (starts >> (lane() + 32 * i) & 1) ||
                           (chunk == 0 && lane() + 32 * i == 0 && !p_.has_initial_state);
        finish_token(inputs[k], t, i, chunk, alone ? 0.f : da[i] + earlier[i] + through, sums);
      }
    }
  }

 private:
  // By token, as in SsdBackwardParams, for tokens `lane` and `lane + 32` of a chunk.
  struct Terms {
    float pairs[2], inter[2], added[2], direct[2], skip[2];
  };

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }

  __device__ Terms read(int chunk) const {
    Terms t;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int token = chunk * kSsdChunk + lane() + 32 * i,
                at = static_cast<int>(block_.row(p_.in)) * p_.in.tokens + token;
      const bool inside = token < p_.in.tokens;
      t.pairs[i] = inside ? p_.pairs[at] : 0.f;
      t.inter[i] = inside ? p_.inter[at] : 0.f;
      t.added[i] = inside ? p_.added[at] : 0.f;
      t.direct[i] = inside ? p_.direct[at] : 0.f;
      t.skip[i] = inside && p_.in.d_skip ? p_.skip[at] : 0.f;
    }
    return t;
  }

  // da: gradient of the log-decay a = −e^{A_log} Δ.
  __device__ void finish_token(const ChunkInputs& inputs, const Terms& t, int i, int chunk, float da,
                               SsdSums& sums) const {
    if (!inputs.inside[i]) return;
    const int token = chunk * kSsdChunk + lane() + 32 * i;
    const float x = warp_.pre_activation(inputs, i), rate = warp_.rate();
    const float dtau = (t.added[i] + t.direct[i] - rate * da) / (1.f + __expf(-x));
    const int64_t row = int64_t{block_.b} * p_.in.tokens + token;
    const int column = (2 * p_.in.groups + p_.in.heads) * kSsdWidth + block_.h;
    static_cast<__nv_bfloat16*>(p_.d_packed)[row * p_.d_packed_columns + column] = __float2bfloat16_rn(dtau);
    sums.a_log -= da * rate * scalars_.dt[lane() + 32 * i];
    sums.dt_bias += dtau;
    sums.d_skip += t.skip[i];
  }

  const SsdBackwardParams& p_;
  const SsdBlock& block_;
  ChunkScalars& scalars_;
  ScalarWarp warp_;
};

// Grid: H, B, kSsdSumParts.
__global__ void __launch_bounds__(32 * kFinishWarps) ssd_backward_finish_kernel(const SsdBackwardParams p) {
  __shared__ ChunkScalars scalars[kFinishWarps];
  sm90::wait_for_grid_before();
  __shared__ SsdSums of_warp[kFinishWarps];
  const int warp = static_cast<int>(threadIdx.x) / 32, part = static_cast<int>(blockIdx.z);
  const SsdBlock block(p.in, static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x), 0);
  FinishWarp finisher(p, block, scalars[warp]);
  SsdSums sums;
  for (int span = part * kFinishWarps + warp; span < row_spans(p.in); span += kSsdSumParts * kFinishWarps)
    finisher.finish(span, sums);
  sums = {warp_sum(sums.a_log), warp_sum(sums.dt_bias), warp_sum(sums.d_skip)};
  if (threadIdx.x % 32 == 0) of_warp[warp] = sums;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int other = 1; other < kFinishWarps; ++other) {
    sums.a_log += of_warp[other].a_log;
    sums.dt_bias += of_warp[other].dt_bias;
    sums.d_skip += of_warp[other].d_skip;
  }
  const int64_t rows = int64_t{p.in.batch} * p.in.heads, at = block.row(p.in) * kSsdSumParts + part;
  p.sums[at] = sums.a_log;
  p.sums[rows * kSsdSumParts + at] = sums.dt_bias;
  p.sums[2 * rows * kSsdSumParts + at] = sums.d_skip;
}

// Adds the sums over sequences to the parameters' gradients. Grid: H, 3; a warp each.
__global__ void ssd_parameter_gradients_kernel(const SsdBackwardParams p) {
  sm90::wait_for_grid_before();
  const int h = static_cast<int>(blockIdx.x), which = static_cast<int>(blockIdx.y);
  float* gradient = which == 0 ? p.d_a_log : which == 1 ? p.d_dt_bias : p.d_d_skip;
  if (!gradient) return;
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < p.in.batch * kSsdSumParts; i += kWarpSize) {
    const int64_t row = (int64_t{which} * p.in.batch + i / kSsdSumParts) * p.in.heads + h;
    sum += p.sums[row * kSsdSumParts + i % kSsdSumParts];
  }
  sum = warp_sum(sum);
  if (threadIdx.x == 0) gradient[h] += sum;
}

}  // namespace transxssm::kernels
