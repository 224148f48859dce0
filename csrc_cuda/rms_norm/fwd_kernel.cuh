// RMSNorm forward, device code: a row is read once and stays in registers until it is normed.
#pragma once

#include "csrc_cuda/rms_norm/params.h"
#include "csrc_cuda/rms_norm/rows.cuh"

namespace transxssm::kernels {

template <class Layout>
inline constexpr int kForwardBlocksPerSm = 1024 / (Layout::kThreads * Layout::kVectors);

template <class Layout, bool kResidual>
__global__ void __launch_bounds__(Layout::kThreads, kForwardBlocksPerSm<Layout>)
    rms_norm_fwd_kernel(const RmsNormForwardParams p) {
  const auto* x = static_cast<const __nv_bfloat16*>(p.x);
  const auto* branch = static_cast<const __nv_bfloat16*>(p.branch);
  const auto w = RowVector<Layout>::loaded(p.w, p.d, 0);
  const auto r = RowVector<Layout>::loaded(kResidual ? p.r : nullptr, p.d, 1);
  RowSum<Layout> row_sum;
  for (int64_t first = int64_t{blockIdx.x} * Layout::kRows; first < p.rows;
       first += int64_t{gridDim.x} * Layout::kRows) {
    const int64_t row = first + Layout::row();
    auto normed = RowVector<Layout>::filled(0);
    float squares = 0;
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      if (row >= p.rows || Layout::column(i) >= p.d) continue;
      const int64_t at = row * p.d + Layout::column(i);
      Float8& value = normed.of[i];
      value = load_vector(x + at);
      if constexpr (kResidual) {
        const Float8 added = load_vector(branch + at);
#pragma unroll
        for (int j = 0; j < kVectorWidth; ++j) value.x[j] = fmaf(r.of[i].x[j], value.x[j], added.x[j]);
        value = rounded_to_bf16(value);
        store_vector(static_cast<__nv_bfloat16*>(p.sum) + at, value);
      }
#pragma unroll
      for (int j = 0; j < kVectorWidth; ++j) squares = fmaf(value.x[j], value.x[j], squares);
    }
    const float rstd = rsqrtf(row_sum(squares) / static_cast<float>(p.d) + p.eps);
    if (row >= p.rows) continue;
    if (Layout::column(0) == 0) p.rstd[row] = rstd;
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      if (Layout::column(i) >= p.d) continue;
      Float8 y = normed.of[i];
#pragma unroll
      for (int j = 0; j < kVectorWidth; ++j) y.x[j] = y.x[j] * rstd * w.of[i].x[j];
      store_vector(static_cast<__nv_bfloat16*>(p.y) + row * p.d + Layout::column(i), y);
    }
  }
}

}  // namespace transxssm::kernels
