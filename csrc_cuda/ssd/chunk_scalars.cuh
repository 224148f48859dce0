// Time steps, decays and documents of one chunk, computed by one warp.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>

#include "csrc_cuda/ssd/params.h"

namespace transxssm::kernels {

inline constexpr float kLog2E = 1.4426950408889634f;

__device__ inline float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Per token of a chunk. A span is the part of a document inside the chunk; a token whose own decay leaves
// less than 2^-150 begins one too, since f32 can't tell what lies before from 0 then, and sums of decays stay
// small enough to subtract.
struct alignas(16) ChunkScalars {
  float s[kSsdChunk];  // Σ log₂ of the decays from the span's (or chunk's) first token up to this one
  float pair_column[kSsdChunk];  // s − log₂ Δ:  e^{s_i − s_j} Δ_j = 2^(s[i] − pair_column[j])
  float dt[kSsdChunk];           // Δ; 0 beyond the row's end
  float
      from_carry[kSsdChunk];  // share of the incoming state that is left at this token, 0 in other documents
  float to_end[kSsdChunk];    // share of this token that is left at the chunk's end, 0 in other documents
  float added[kSsdChunk];     // to_end Δ: weight of this token in the chunk's final state
  int first[kSsdChunk];       // first and last token of the span
  int last[kSsdChunk];
  float carry;  // share of the incoming state that is left at the chunk's end
};

// What a lane reads for its two tokens of a chunk, `lane` and `lane + 32`: as it is in memory, so that
// nothing waits for it before compute().
struct ChunkInputs {
  __nv_bfloat16 tau[2];
  int position[2];  // its lower half
  bool inside[2];
};

// The same value; the compiler does not see that, and so cannot keep what follows from it in registers from
// chunk to chunk.
__device__ inline int computed_anew(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

class ScalarWarp {
 public:
  __device__ ScalarWarp(const SsdInputs& in, int b, int h)
      : tau_(static_cast<const __nv_bfloat16*>(in.packed) + b * in.packed_batch_stride +
             2 * in.groups * kSsdWidth + in.heads * kSsdWidth + h),
        stride_(in.packed_row_stride),
        positions_(in.positions + static_cast<int64_t>(b) * in.tokens),
        tokens_(in.tokens),
        bias_(in.dt_bias[h]),
        log2_rate_(-expf(in.a_log[h]) * kLog2E) {}

  // τ + dt_bias of this lane's token `lane + 32 i`.
  __device__ float pre_activation(const ChunkInputs& in, int i) const {
    return __bfloat162float(in.tau[i]) + bias_;
  }
  __device__ float rate() const { return -log2_rate_ / kLog2E; }  // e^{A_log}

  __device__ ChunkInputs load(int chunk) const {
    ChunkInputs in;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int t = chunk * kSsdChunk + lane() + 32 * i;
      in.inside[i] = t < tokens_;
      in.tau[i] = in.inside[i] ? tau_[t * stride_] : __nv_bfloat16();
      in.position[i] = in.inside[i] && t > 0 ? *reinterpret_cast<const int*>(positions_ + t) : 1;
    }
    return in;
  }

  // Returns the tokens that begin a span, as bits.
  __device__ uint64_t compute(const ChunkInputs& in, ChunkScalars& out) const {
    constexpr float kForgets = -150.f;
    float dt[2], decay[2];
    uint64_t starts = 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float x = pre_activation(in, i);
      dt[i] = in.inside[i] ? fmaxf(x, 0.f) + log1pf(__expf(-fabsf(x))) : 0.f;
      decay[i] = log2_rate_ * dt[i];
      const bool start = in.position[i] == 0 || decay[i] < kForgets;
      if (start) decay[i] = 0;
      starts |= uint64_t{__ballot_sync(~0u, start)} << (32 * i);
    }
    scan(decay, starts);
    const float s_end = __shfl_sync(~0u, decay[1], 31);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int t = lane() + 32 * i;
      const uint64_t up_to = starts & (~uint64_t{0} >> (63 - t)),
                     beyond = starts & ~(~uint64_t{0} >> (63 - t));
      out.s[t] = decay[i];
      out.pair_column[t] = decay[i] - log2f(dt[i]);
      out.dt[t] = dt[i];
      out.from_carry[t] = up_to ? 0.f : exp2_approx(decay[i]);
      const float to_end = beyond ? 0.f : exp2_approx(fminf(s_end - decay[i], 0.f));
      out.to_end[t] = to_end;
      out.added[t] = to_end * dt[i];
      out.first[t] = up_to ? 63 - __clzll(static_cast<long long>(up_to)) : 0;
      out.last[t] = beyond ? __ffsll(static_cast<long long>(beyond)) - 2 : kSsdChunk - 1;
    }
    if (lane() == 0) out.carry = starts ? 0.f : exp2_approx(s_end);
    return starts;
  }

 private:
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }

  // Running sums over the 64 tokens that begin anew at `starts`.
  __device__ static void scan(float (&value)[2], uint64_t starts) {
    const int lane = computed_anew(ScalarWarp::lane());
    float before = 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const auto half = static_cast<uint32_t>(starts >> (32 * i));
      const uint32_t up_to = half & (~0u >> (31 - lane));
      const int first = up_to ? 31 - __clz(static_cast<int>(up_to)) : 0;
#pragma unroll
      for (int distance = 1; distance < 32; distance *= 2) {
        const float below = __shfl_up_sync(~0u, value[i], distance);
        if (lane - distance >= first) value[i] += below;
      }
      if (!up_to) value[i] += before;
      before = __shfl_sync(~0u, value[i], 31);
    }
  }

  const __nv_bfloat16* tau_;
  int64_t stride_;
  const int64_t* positions_;
  int tokens_;
  float bias_, log2_rate_;
};

}  // namespace transxssm::kernels
