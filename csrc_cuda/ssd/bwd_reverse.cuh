// The reverse role of the backward scan: from a row's last chunk to its first, with the state's gradient G [P
// × N] in registers. With the names of fwd_kernel.cuh, per chunk, G being the gradient of the state after it:
//   M_ij = e^{s_i − s_j} Δ_j (C Bᵀ)_ij     dS_ij = e^{s_i − s_j} Δ_j (dY Xᵀ)_ij
//   dX = (to_end Δ) ∘ (B Gᵀ) + Mᵀ dY       dB = (to_end Δ) ∘ (X G) + dSᵀ C
//   G ← e^{s_end} G + (e^s ∘ dY)ᵀ C
// Warpgroups: "inputs" makes dX, "keys" makes dB, each keeps half of G's rows; two "helpers" turn C and B
// together, then make half of the columns of M and dS each.
#pragma once

#include "csrc_cuda/ssd/bwd_reverse_helpers.cuh"

namespace transxssm::kernels {

// "inputs" (half 0) or "keys" (half 1): one of the two gradients and half of G.
class ReverseScan {
 public:
  __device__ ReverseScan(const SsdBackwardParams& p, const SsdBackwardMaps& maps, const SsdBlock& block,
                         SsdReverseShared& shared, int half)
      : p_(p), maps_(maps), block_(block), shared_(shared), half_(half) {}

  __device__ void run() {
    float gradient[64];  // rows [64 half, 64 half + 64) of G
    load_gradient(gradient);
    if (is_first_of_span(block_.last_chunk - 1)) make_anchor(gradient, block_.last_chunk - 1);
    publish(gradient);
    for (int i = 0; i < block_.chunks(); ++i) pass_chunk(gradient, i);
    if (block_.segment == 0 && p_.d_initial_state)
      write_state(gradient, p_.d_initial_state, block_.row(p_.in), 64 * half());
  }

 private:
  static constexpr int kSavedAtOnce = 16;

  // Anew, lest every address that follows from it stays in a register.
  __device__ int half() const { return computed_anew(half_); }
  __device__ bool makes_inputs() const { return half() == 0; }

  // The block's i-th chunk. With the second chunk of a span, <state before the span, gradient of the state a
  // chunk on> too: read and multiplied while products run.
  __device__ void pass_chunk(float (&gradient)[64], int i) {
    const int stage = i % kReverseStages, chunk = reverse_chunk(block_, i);
    wait_for_tiles(shared_, i);
    const ChunkScalars& scalars = shared_.scalars[i];
    if (is_first_of_span(chunk - 2)) prefetch_saved(chunk - 2);
    const bool anchor = is_first_of_span(chunk - 1);
    uint32_t saved[kSavedAtOnce];
    float anchored = 0;
    if (anchor) read_saved(saved, chunk - 1, 0);
    add_outputs(gradient, scalars, stage);
    if (anchor) {
      anchored = products(saved, gradient, 0);
      read_saved(saved, chunk - 1, 1);
    }
    shared_.gradient_written.wait(i % 2);
    float d[64];
    multiply_by_gradient(d, stage);
    if (anchor) write_anchor(anchored + products(saved, gradient, 1), chunk - 1);
    sm90::wgmma_wait<0>();
    warp_arrive(shared_.gradient_read);
    weigh_later(d, scalars, stage, chunk);
    shared_.pairs_ready.wait(i % 2);
    multiply_by_pairs(d, stage);
    shared_.gradient_read.wait(i % 2);  // everyone's, of the old copy
    publish(gradient);
    sm90::wgmma_wait<0>();
    if (makes_inputs() && p_.in.d_skip) add_skip(d, stage);
    warp_arrive(shared_.pairs_free);
    if (!makes_inputs() && i + kReverseStages < block_.chunks()) load_next(i);
    write_out(d, stage, chunk);
  }

  // dX from registers; dB turned back, then by way of the angles that the warp has read.
  __device__ void write_out(float (&d)[64], int stage, int chunk) {
    if (!makes_inputs() && p_.in.rope_cos) shared_.angle_table[stage].turn_back(d);
    __syncwarp();  // a warp turns back by the angles of its own rows
    store(d,
          makes_inputs() ? shared_.leaving[warp_in_group()]
                         : shared_.angle_table[stage].bytes + 16 * AngleTable::kRowBytes * warp_in_group(),
          chunk);
    if (!makes_inputs()) warp_arrive(shared_.stage[stage].free);
  }

  __device__ void make_anchor(const float (&gradient)[64], int chunk) const {
    uint32_t saved[kSavedAtOnce];
    read_saved(saved, chunk, 0);
    const float sum = products(saved, gradient, 0);
    read_saved(saved, chunk, 1);
    write_anchor(sum + products(saved, gradient, 1), chunk);
  }

  __device__ void load_gradient(float (&gradient)[64]) const {
    const int64_t row = block_.row(p_.in);
    if (p_.in.segments > 1) {
      read_state(gradient, p_.segment_gradients, row * p_.in.segments + block_.segment, 64 * half());
    } else {
      read_state(gradient, p_.final_gradient, row, 64 * half());
      if (p_.final_gradient) turn_to_absolute(gradient, p_.in, block_.b, true);
    }
  }

  // This half's rounded copy, for everyone.
  __device__ void publish(const float (&gradient)[64]) {
    store_rounded<2>(gradient, &shared_.gradient[0][half()]);
    sm90::fence_async_proxy();
    warp_arrive(shared_.gradient_written);
  }

  // G ← e^{s_end} G + (e^s ∘ dY)ᵀ C. Done before the other products begin: its operand's registers are needed
  // again.
  __device__ void add_outputs(float (&gradient)[64], const ChunkScalars& scalars, int stage) {
    scale_rows(gradient, scalars.carry, scalars.carry);
    uint32_t outputs[4][4];
    load_transposed_scaled(shared_.dy[stage][half()], scalars.from_carry, outputs);
    sm90::wgmma_fence();
    sm90::multiply<sm90::Major::outer>(gradient, outputs, sm90::Rows64{shared_.c[stage]}, true);
    sm90::wgmma_commit();
    sm90::wgmma_wait<0>();
  }

  // d = B Gᵀ or X G, queued.
  __device__ void multiply_by_gradient(float (&d)[64], int stage) {
    sm90::wgmma_fence();
    if (makes_inputs())
      sm90::multiply<8, sm90::Major::contraction, sm90::Major::contraction>(
          d, sm90::Rows64{shared_.b[stage]}, sm90::Rows128{shared_.gradient}, false);
    else
      sm90::multiply<8, sm90::Major::contraction, sm90::Major::outer>(d, sm90::Rows64{shared_.x[stage]},
                                                                      sm90::Rows128{shared_.gradient}, false);
    sm90::wgmma_commit();
  }

  // d += Mᵀ dY or dSᵀ C, queued.
  __device__ void multiply_by_pairs(float (&d)[64], int stage) {
    const Tile* pairs = makes_inputs() ? &shared_.weights : &shared_.scores;
    const Tile* values = makes_inputs() ? shared_.dy[stage] : shared_.c[stage];
    sm90::wgmma_fence();
    sm90::multiply<4, sm90::Major::contraction, sm90::Major::outer>(d, sm90::Rows64{pairs},
                                                                    sm90::Rows64{values}, true);
    sm90::wgmma_commit();
  }

  // Weighs what comes through the state after the chunk.
  __device__ void weigh_later(float (&d)[64], const ChunkScalars& scalars, int stage, int chunk) {
    const int row = accumulator_row_anew();
    if (makes_inputs()) {
      const float2 sums = row_products(shared_.x[stage], d);
      write_rows(p_.added, p_.in, block_, chunk,
                 {sums.x * scalars.to_end[row], sums.y * scalars.to_end[row + 8]});
    }
    scale_rows(d, scalars.added[row], scalars.added[row + 8]);
  }

  __device__ void add_skip(float (&d)[64], int stage) {
    const float skip = p_.in.d_skip[block_.h];
    for_each_value<1, 64>(shared_.dy[stage], [&](int element, float value) { d[element] += skip * value; });
  }

  // Asks for the tiles that come in place of the i-th chunk's, once nobody reads those: each warp for one
  // matrix, since queueing a copy takes a thread some two hundred cycles.
  __device__ void load_next(int i) {
    if (lane_index() == 0) {
      shared_.pairs_free.wait(i % 2);
      load_matrix(p_, maps_, block_, reverse_chunk(block_, i + kReverseStages), warp_in_group(), shared_,
                  i % kReverseStages);
    }
    __syncwarp();
  }

  // Rounds a chunk's dX or dB and writes it, 32 columns at a time by way of kStagingBytes of this warp's own.
  __device__ void store(const float (&d)[64], unsigned char* staging, int chunk) const {
    const bool by_head = !makes_inputs() && p_.d_heads;
    const int64_t columns = by_head ? p_.in.heads * kSsdWidth : p_.d_packed_columns;
    const int column = makes_inputs() ? block_.x_column(p_.in) : d_b_column(p_, block_);
    const int thread = thread_of_group_anew(), lane = thread % 32;
    const int row = lane / 4;  // and row + 8
    const int token = chunk * kSsdChunk + thread / 32 * 16 + row;
    auto* to = static_cast<__nv_bfloat16*>(by_head ? p_.d_heads : p_.d_packed);
    if (by_head) to += int64_t{p_.in.batch} * p_.in.tokens * columns;
    to += (int64_t{block_.b} * p_.in.tokens + token) * columns + column + 8 * (lane % 4);
    const uint32_t first = sm90::shared_address(staging);
    const uint32_t put = first + staged_offset(lane % 16, lane / 16),
                   get = first + staged_offset(row, lane % 4);
#pragma unroll
    for (int part = 0; part < 4; ++part) {
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        uint32_t a[4];
        pack_step(d, 2 * part + step, a);
        sm90::store_matrices(sm90::other_piece(put, 2 * step), a[0], a[1], a[2], a[3]);
      }
      __syncwarp();
#pragma unroll
      for (int rows = 0; rows < 16; rows += 8) {
        const uint4 piece = sm90::load_shared(get + rows * kStagedRowBytes);
        if (token + rows < p_.in.tokens) *reinterpret_cast<uint4*>(to + rows * columns + 32 * part) = piece;
      }
      __syncwarp();
    }
  }

  // Four pieces a row, in an order in which eight rows fall into all banks.
  static constexpr int kStagedRowBytes = 64;
  __device__ static uint32_t staged_offset(int row, int piece) {
    return static_cast<uint32_t>(row * kStagedRowBytes + ((piece ^ (row / 2 % 4)) << 4));
  }

  __device__ static bool is_first_of_span(int chunk) { return chunk >= 0 && chunk % kSsdChunksPerSpan == 0; }

  __device__ int64_t span_index(int chunk) const {
    return static_cast<int>(block_.row(p_.in)) * row_spans(p_.in) + chunk / kSsdChunksPerSpan;
  }

  // Of the saved state before a chunk, this warpgroup's rows.
  __device__ const __nv_bfloat16* saved_rows(int chunk) const {
    return static_cast<const __nv_bfloat16*>(p_.saved_states) +
           (span_index(chunk) * kSsdWidth + 64 * half()) * kSsdWidth;
  }

  // Brings what read_saved will read nearer, a cache line a thread.
  __device__ void prefetch_saved(int chunk) const {
    const auto* line = reinterpret_cast<const unsigned char*>(saved_rows(chunk)) + threadIdx.x % 128 * 128;
    asm volatile("prefetch.global.L2 [%0];" ::"l"(line));
  }

  // A half of this thread's part of the saved state before a chunk. Read here and not where the compiler
  // would, next to its use.
  __device__ void read_saved(uint32_t (&saved)[kSavedAtOnce], int chunk, int part) const {
    const __nv_bfloat16* from =
        saved_rows(chunk) + accumulator_row_anew() * kSsdWidth + accumulator_column_anew();
#pragma unroll
    for (int k = 0; k < kSavedAtOnce; ++k)
      asm volatile("ld.global.nc.b32 %0, [%1];"
                   : "=r"(saved[k])
                   : "l"(from + 8 * (k % 2) * kSsdWidth + 8 * ((kSavedAtOnce * part + k) / 2)));
  }

  // <state before the chunk, gradient of the state after it>, this warpgroup's part. In f32: G's rounded copy
  // is not accurate enough where the decay is steep.
  __device__ static float products(const uint32_t (&saved)[kSavedAtOnce], const float (&gradient)[64],
                                   int part) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kSavedAtOnce; ++i) {
      const int k = 2 * (kSavedAtOnce * part + i);
      sum += sm90::low_half(saved[i]) * gradient[k] + sm90::high_half(saved[i]) * gradient[k + 1];
    }
    return sum;
  }

  __device__ void write_anchor(float sum, int chunk) const {
    sum = warp_sum(sum);
    if (lane_index() == 0)
      p_.anchors[span_index(chunk) * kSsdAnchorParts + 4 * half() + warp_in_group()] = sum;
  }

  const SsdBackwardParams& p_;
  const SsdBackwardMaps& maps_;
  const SsdBlock block_;
  SsdReverseShared& shared_;
  const int half_;
};

}  // namespace transxssm::kernels
