// RMSNorm backward, device code: each tensor is read once, the vectors' gradients are summed in registers
// over the rows of a block.
#pragma once

#include "csrc_cuda/rms_norm/params.h"
#include "csrc_cuda/rms_norm/rows.cuh"

namespace transxssm::kernels {

template <class Layout>
inline constexpr int kBackwardBlocksPerSm = Layout::kVectors > 1 ? 1 : 768 / Layout::kThreads;

// kScaled: with r and its gradient. Grid: norm_parts(rows, d) blocks.
template <class Layout, bool kScaled>
__global__ void __launch_bounds__(Layout::kThreads, kBackwardBlocksPerSm<Layout>)
    rms_norm_bwd_kernel(const RmsNormBackwardParams p) {
  const auto bf16 = [](const void* pointer) { return static_cast<const __nv_bfloat16*>(pointer); };
  const auto w = RowVector<Layout>::loaded(p.w, p.d, 0);
  const auto r = RowVector<Layout>::loaded(kScaled ? p.r : nullptr, p.d, 1);
  auto dw = RowVector<Layout>::filled(0), dr = RowVector<Layout>::filled(0);
  const float inv_d = 1.0f / static_cast<float>(p.d);
  RowSum<Layout> row_sum;
  for (int64_t first = int64_t{blockIdx.x} * Layout::kRows; first < p.rows;
       first += int64_t{gridDim.x} * Layout::kRows) {
    const int64_t row = first + Layout::row();
    const float rstd = row < p.rows ? p.rstd[row] : 0;
    uint4 dy_bits[Layout::kVectors], normed_bits[Layout::kVectors], other_bits[Layout::kVectors];
    float dot = 0;  // of the normalised row and its gradient
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      dy_bits[i] = normed_bits[i] = other_bits[i] = make_uint4(0, 0, 0, 0);
      if (row >= p.rows || Layout::column(i) >= p.d) continue;
      const int64_t at = row * p.d + Layout::column(i);
      dy_bits[i] = load_bits(bf16(p.dy) + at);
      normed_bits[i] = load_bits(bf16(p.normed) + at);
      if (p.d_other != nullptr) other_bits[i] = load_bits(bf16(p.d_other) + at);
    }
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      const Float8 dy = to_values(dy_bits[i]), normed = to_values(normed_bits[i]);
      const Float8 other = to_values(other_bits[i]);
#pragma unroll
      for (int j = 0; j < kVectorWidth; ++j) {
        const float dw_here = dy.x[j] * (normed.x[j] * rstd);
        dw.of[i].x[j] += dw_here;
        dot = fmaf(dw_here, w.of[i].x[j], dot);
        if constexpr (kScaled) dr.of[i].x[j] = fmaf(other.x[j], normed.x[j], dr.of[i].x[j]);
      }
    }
    const float mean = row_sum(dot) * inv_d;
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      if (row >= p.rows || Layout::column(i) >= p.d) continue;
      const int64_t at = row * p.d + Layout::column(i);
      const Float8 dy = to_values(dy_bits[i]), normed = to_values(normed_bits[i]);
      Float8 d_normed = to_values(other_bits[i]), y;
#pragma unroll
      for (int j = 0; j < kVectorWidth; ++j) {
        if constexpr (kScaled) d_normed.x[j] *= r.of[i].x[j];
        d_normed.x[j] += rstd * (dy.x[j] * w.of[i].x[j] - normed.x[j] * rstd * mean);
        y.x[j] = normed.x[j] * rstd * w.of[i].x[j];
      }
      store_vector(static_cast<__nv_bfloat16*>(p.d_normed) + at, d_normed);
      if (p.y != nullptr) store_vector(static_cast<__nv_bfloat16*>(p.y) + at, y);
    }
  }
  write_partial_sums<Layout>(dw, p.partial_sums, p.d);
  if constexpr (kScaled) write_partial_sums<Layout>(dr, p.partial_sums + int64_t{gridDim.x} * p.d, p.d);
}

}  // namespace transxssm::kernels
