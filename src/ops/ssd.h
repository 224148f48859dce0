// State-space duality scan with the rotary embedding inside (model.md "SSD mixer"; Mamba-2, arXiv
// 2405.21060).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <ATen/core/Tensor.h>

#include "core/parameter.h"
#include "ops/documents.h"
#include "ops/rope.h"

namespace transxssm::ops {

// automatic: the fastest path that the device has for these widths; reference: the chunked LibTorch path.
enum class SsdPath { automatic, reference };

struct SsdDims {
  int64_t num_heads = 0;   // H
  int64_t head_dim = 0;    // P
  int64_t state_dim = 0;   // N
  int64_t num_groups = 0;  // G divides H; heads [g H/G, (g+1) H/G) share B and C of group g
  int64_t chunk_size = 0;  // L: changes rounding and speed, not the function
  SsdPath path = SsdPath::automatic;
};

// Columns of the packed projection: [ C: G·N | B: G·N | X: H·P | τ: H | anything ].
inline int64_t ssd_packed_columns(const SsdDims& d) {
  return 2 * d.num_groups * d.state_dim + d.num_heads * d.head_dim + d.num_heads;
}

struct SsdResult {
  at::Tensor y_btw;  // [B, T, H·P], dtype of packed
  at::Tensor
      final_state_bhpn;  // f32 (f64 for f64 input) [B, H, P, N], after each row's last token, absolute frame
};

// With C, B rotated by the token's position in its document, per head
//   Δ_t = softplus(τ_t + dt_bias)      a_t = −exp(A_log) Δ_t
//   S_t = e^{a_t} S_{t−1} + Δ_t X_t B_tᵀ        y_t = S_t C_t (+ D ⊙ X_t)
// and S = 0 before a document's first token; a row's first document goes on from `initial_state` when given.
//
// A NaN or infinity in a document may show in the documents behind it in the row, or before it in the
// gradients: they meet in products where the other's weight is 0, and 0 · NaN is NaN.
//
// packed_btw: [B, T, ≥ ssd_packed_columns] f32|bf16|f64, last dimension contiguous, any row stride: read in
// place, its
//   gradient comes back in one buffer of the same columns.
// a_log_h, dt_bias_h: [H] f32; d_skip_h: [H] or null. Their gradients are added to Parameter::grad.
// rope: table of width N, or null for no rotation.  initial_state: f32 [B, H, P, N], absolute frame.
// documents: checked where they lie on the CPU. On a GPU the host does not read them (documents.h): there the
//   caller answers for offsets and positions, and a position outside the rotary table ends the kernel by a
//   trap.
// Δ, decay, cumulative sums and state are f32 (f64 for f64 input).
// Differentiable in packed, a_log, dt_bias, d_skip, initial_state; final_state may carry a gradient in.
SsdResult ssd(const SsdDims& dims, const at::Tensor& packed_btw, const ParameterPtr& a_log_h,
              const ParameterPtr& dt_bias_h, const ParameterPtr& d_skip_h, const RopeTable* rope,
              const Documents& documents, const std::optional<at::Tensor>& initial_state_bhpn = std::nullopt);

// One token of the same recurrence for decoding; state_bhpn (f32 [B, H, P, N], absolute frame) is updated in
// place. packed_bw [B, ≥ columns]; positions_b i64 [B], read on the device. Returns y [B, H·P]. Not
// differentiable. CUDA, widths 128 × 128, f32|bf16: one kernel (it wants a contiguous state); otherwise the
// reference.
at::Tensor ssd_step(const SsdDims& dims, const at::Tensor& packed_bw, const ParameterPtr& a_log_h,
                    const ParameterPtr& dt_bias_h, const ParameterPtr& d_skip_h, const RopeTable* rope,
                    const at::Tensor& positions_b, at::Tensor& state_bhpn);

// Which path ssd() takes for a packed input of this dtype on this device, and why: a line for the log.
std::string ssd_path_description(const SsdDims& dims, at::Device device, at::ScalarType dtype);

// The same of ssd_step().
std::string ssd_step_path_description(const SsdDims& dims, at::Device device, at::ScalarType dtype);

}  // namespace transxssm::ops
