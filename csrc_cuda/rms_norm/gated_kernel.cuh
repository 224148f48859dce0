// RMSNorm of y ⊙ silu(z), device code. The product is formed in f32 and never stored.
#pragma once

#include "csrc_cuda/common/silu.cuh"
#include "csrc_cuda/rms_norm/gated_params.h"
#include "csrc_cuda/rms_norm/rows.cuh"

namespace transxssm::kernels {

template <class Layout>
inline constexpr int kGatedForwardBlocksPerSm = 1024 / (Layout::kThreads * Layout::kVectors);

template <class Layout>
__global__ void __launch_bounds__(Layout::kThreads, kGatedForwardBlocksPerSm<Layout>)
    gated_rms_norm_fwd_kernel(const GatedRmsNormForwardParams p) {
  const auto w = RowVector<Layout>::loaded(p.w, p.d, 0);
  RowSum<Layout> row_sum;
  for (int64_t first = int64_t{blockIdx.x} * Layout::kRows; first < p.rows;
       first += int64_t{gridDim.x} * Layout::kRows) {
    const int64_t row = first + Layout::row();
    auto gated = RowVector<Layout>::filled(0);
    float squares = 0;
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      if (row >= p.rows || Layout::column(i) >= p.d) continue;
      const Float8 y = load_vector(static_cast<const __nv_bfloat16*>(p.y) + row * p.d + Layout::column(i));
      const Float8 z =
          load_vector(static_cast<const __nv_bfloat16*>(p.z) + row * p.z_stride + Layout::column(i));
#pragma unroll
      for (int j = 0; j < kVectorWidth; ++j) {
        const float value = y.x[j] * (z.x[j] * sigmoid(z.x[j]));
        gated.of[i].x[j] = value;
        squares = fmaf(value, value, squares);
      }
    }
    const float rstd = rsqrtf(row_sum(squares) / static_cast<float>(p.d) + p.eps);
    if (row >= p.rows) continue;
    if (Layout::column(0) == 0) p.rstd[row] = rstd;
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      if (Layout::column(i) >= p.d) continue;
      Float8 out = gated.of[i];
#pragma unroll
      for (int j = 0; j < kVectorWidth; ++j) out.x[j] *= rstd * w.of[i].x[j];
      store_vector(static_cast<__nv_bfloat16*>(p.out) + row * p.d + Layout::column(i), out);
    }
  }
}

template <class Layout>
inline constexpr int kGatedBackwardBlocksPerSm = Layout::kVectors > 1 ? 1 : 640 / Layout::kThreads;

// Grid: gated_norm_parts(rows, d) blocks.
template <class Layout>
__global__ void __launch_bounds__(Layout::kThreads, kGatedBackwardBlocksPerSm<Layout>)
    gated_rms_norm_bwd_kernel(const GatedRmsNormBackwardParams p) {
  const auto load = [](const void* pointer, int64_t at) {
    return load_bits(static_cast<const __nv_bfloat16*>(pointer) + at);
  };
  const auto w = RowVector<Layout>::loaded(p.w, p.d, 0);
  auto dw = RowVector<Layout>::filled(0);
  const float inv_d = 1.0f / static_cast<float>(p.d);
  RowSum<Layout> row_sum;
  for (int64_t first = int64_t{blockIdx.x} * Layout::kRows; first < p.rows;
       first += int64_t{gridDim.x} * Layout::kRows) {
    const int64_t row = first + Layout::row();
    const float rstd = row < p.rows ? p.rstd[row] : 0;
    uint4 d_out_bits[Layout::kVectors], y_bits[Layout::kVectors], z_bits[Layout::kVectors];
    float dot = 0;  // of the normalised row and its gradient
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      d_out_bits[i] = y_bits[i] = z_bits[i] = make_uint4(0, 0, 0, 0);
      if (row >= p.rows || Layout::column(i) >= p.d) continue;
      d_out_bits[i] = load(p.d_out, row * p.d + Layout::column(i));
      y_bits[i] = load(p.y, row * p.d + Layout::column(i));
      z_bits[i] = load(p.z, row * p.z_stride + Layout::column(i));
    }
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      const Float8 d_out = to_values(d_out_bits[i]), y = to_values(y_bits[i]), z = to_values(z_bits[i]);
#pragma unroll
      for (int j = 0; j < kVectorWidth; ++j) {
        const float normed = y.x[j] * (z.x[j] * sigmoid(z.x[j])) * rstd;
        const float dw_here = d_out.x[j] * normed;
        dw.of[i].x[j] += dw_here;
        dot = fmaf(dw_here, w.of[i].x[j], dot);
      }
    }
    const float mean = row_sum(dot) * inv_d;
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      if (row >= p.rows || Layout::column(i) >= p.d) continue;
      const Float8 d_out = to_values(d_out_bits[i]), y = to_values(y_bits[i]), z = to_values(z_bits[i]);
      Float8 dy, dz;
#pragma unroll
      for (int j = 0; j < kVectorWidth; ++j) {
        const float s = sigmoid(z.x[j]), gate = z.x[j] * s;
        const float d_gated = rstd * (d_out.x[j] * w.of[i].x[j] - y.x[j] * gate * rstd * mean);
        dy.x[j] = d_gated * gate;
        dz.x[j] = d_gated * y.x[j] * silu_slope(z.x[j], s);
      }
      store_vector(static_cast<__nv_bfloat16*>(p.dy) + row * p.d + Layout::column(i), dy);
      store_vector(static_cast<__nv_bfloat16*>(p.dz) + row * p.dz_stride + Layout::column(i), dz);
    }
  }
  write_partial_sums<Layout>(dw, p.partial_sums, p.d);
}

}  // namespace transxssm::kernels
