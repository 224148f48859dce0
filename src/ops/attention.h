// Causal attention inside documents, with the rotary embedding inside.
#pragma once

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

#include "ops/documents.h"
#include "ops/rope.h"

namespace transxssm::ops {

// automatic: the fastest path that the device has for these heads; reference: LibTorch.
enum class AttentionPath { automatic, reference };

struct AttentionDims {
  int64_t num_heads = 0;     // H
  int64_t num_kv_heads = 0;  // G divides H; query head h reads key and value head h / (H/G)
  int64_t head_dim = 0;      // P
  AttentionPath path = AttentionPath::automatic;
};

// Columns of the packed projection: [ Q: H·P | K: G·P | V: G·P | anything ].
inline int64_t attention_packed_columns(const AttentionDims& d) {
  return (d.num_heads + 2 * d.num_kv_heads) * d.head_dim;
}

// y_i = Σ_j softmax_j(q_i·k_j / √P) v_j over tokens j ≤ i of i's document, q and k rotated by their position.
// packed_btw: [B, T, ≥ columns] f32|bf16|f64, last dimension contiguous, any row stride. rope: table of width
// P or null. Returns [B, T, H·P], dtype of packed. Softmax in f32 (f64 for f64). Differentiable in packed.
// `deterministic`: the gradient has the same bits in every run on the same device. CPU: always so.
// CUDA, bf16, heads 64 or 128 wide, compute capability 9.0: cuDNN, which reads packed in place: the memory of
// Q and K then holds their rotated values, so the caller gives packed away (it must not be read again, which
// autograd checks; a leaf of the graph is copied first). There false leaves the order of sums in
// dQ open where every row is one document, known by a capacity of B. Elsewhere on CUDA: false takes
// LibTorch's varlen flash attention (bf16 only; its dQ is not reproducible), true plain masked products.
at::Tensor attention(const AttentionDims& dims, const at::Tensor& packed_btw, const RopeTable* rope,
                     const Documents& documents, bool deterministic = true);

// Which path attention() takes for a packed input of this dtype on this device, and why: a line for the log.
std::string attention_path_description(const AttentionDims& dims, at::Device device, at::ScalarType dtype,
                                       bool deterministic);

// Batches of one shape.
struct AttentionBatch {
  int64_t batch = 0, seq_len = 0;
  int64_t documents = 0;  // capacity of their offsets
  bool deterministic = true;
};

// Makes what training's calls with such batches need before the first of them, from another thread if wanted:
// up to seconds where nothing is cached. For a packed input without further columns. Nothing to do where
// attention() takes LibTorch's paths.
void prepare_attention(const AttentionDims& dims, at::Device device, at::ScalarType dtype,
                       const AttentionBatch& batch);

}  // namespace transxssm::ops
