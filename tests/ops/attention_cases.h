// Attention: the literal formula, document by document, and arguments, shared by the CPU and CUDA tests.
#pragma once

#include <cmath>
#include <limits>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include "ops/attention.h"
#include "support/op_case.h"

namespace transxssm {

struct AttentionShape {
  ops::AttentionDims dims;
  int64_t batch = 1, seq_len = 1;
  std::vector<int32_t> offsets;  // of the documents, empty ones at the end
  bool rope = true;
  int64_t extra_columns = 0;
};

inline at::Tensor offsets_of(const AttentionShape& s) {
  return at::tensor(s.offsets, at::TensorOptions(at::kInt));
}

// Angles position · 100^(−2k/width): every channel turns noticeably within a few tokens.
inline ops::RopeTable rope_like(const at::Tensor& x, int64_t positions, int64_t width) {
  const at::TensorOptions f64(at::kDouble);
  const at::Tensor frequency =
      at::pow(100.0, at::arange(width / 2, f64) * (-2.0 / static_cast<double>(width)));
  const at::Tensor angles = at::outer(at::arange(positions, f64), frequency);
  const auto dtype = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return {angles.cos().to(x.device(), dtype), angles.sin().to(x.device(), dtype)};
}

// [len, P] rotated by its row number.
inline at::Tensor literal_rotation(const at::Tensor& x) {
  const ops::RopeTable table = rope_like(x, x.size(0), x.size(1));
  const at::Tensor cos = table.cos.to(x.scalar_type()), sin = table.sin.to(x.scalar_type());
  const auto halves = x.chunk(2, 1);
  return at::cat({halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, 1);
}

// One head of one document: q, k, v [len, P].
inline at::Tensor literal_head(at::Tensor q, at::Tensor k, const at::Tensor& v, bool rope) {
  if (rope) {
    q = literal_rotation(q);
    k = literal_rotation(k);
  }
  const at::Tensor later = at::ones({q.size(0), q.size(0)}, q.options().dtype(at::kBool)).triu(1);
  const at::Tensor scores = q.matmul(k.t()) / std::sqrt(static_cast<double>(q.size(1)));
  return scores.masked_fill(later, -std::numeric_limits<double>::infinity()).softmax(1).matmul(v);
}

inline at::Tensor literal_attention(const AttentionShape& s, const at::Tensor& packed_btw) {
  const int64_t heads = s.dims.num_heads, groups = s.dims.num_kv_heads, width = s.dims.head_dim;
  const at::Tensor tokens = packed_btw.flatten(0, 1);
  Tensors documents;
  for (size_t d = 0; d + 1 < s.offsets.size(); ++d) {
    const int64_t len = s.offsets[d + 1] - s.offsets[d];
    if (len == 0) continue;
    const at::Tensor rows = tokens.narrow(0, s.offsets[d], len);
    Tensors columns;
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t g = h / (heads / groups);
      columns.push_back(literal_head(rows.narrow(1, h * width, width),
                                     rows.narrow(1, (heads + g) * width, width),
                                     rows.narrow(1, (heads + groups + g) * width, width), s.rope));
    }
    documents.push_back(at::cat(columns, 1));
  }
  return at::cat(documents, 0).view({s.batch, s.seq_len, heads * width});
}

inline at::Tensor run_attention(const AttentionShape& s, const at::Tensor& packed, const at::Tensor& offsets,
                                bool deterministic = true) {
  const ops::Documents documents = ops::make_documents(offsets, s.batch, s.seq_len);
  const ops::RopeTable table = rope_like(packed, s.seq_len, s.dims.head_dim);
  // On CUDA it may take the memory of what is no leaf.
  const at::Tensor given = packed.requires_grad() ? packed : packed.clone();
  return ops::attention(s.dims, given, s.rope ? &table : nullptr, documents, deterministic);
}

inline OpCase attention_case(const AttentionShape& s, bool deterministic = true, double scale = 1.0) {
  const int64_t columns = ops::attention_packed_columns(s.dims) + s.extra_columns;
  return {
      concat("attention [", s.batch, ", ", s.seq_len, "] heads ", s.dims.num_heads, "/", s.dims.num_kv_heads,
             " width ", s.dims.head_dim, s.rope ? " rope" : "", deterministic ? "" : " flash"),
      [=](const Tensors& x, const std::vector<ParameterPtr>&) {
        return Tensors{run_attention(s, x[0], x[1], deterministic)};
      },
      [=](const Tensors& x, const Tensors&) { return Tensors{literal_attention(s, x[0])}; },
      {f64_tensor({s.batch, s.seq_len, columns}, 3, scale), offsets_of(s)},
      {}};
}

// Whole rows, ragged documents, a length-1 document, empty documents at the end, every ratio of heads.
inline std::vector<AttentionShape> small_attention_shapes() {
  return {{{1, 1, 2}, 1, 1, {0, 1}, true, 0},
          {{2, 2, 4}, 2, 5, {0, 5, 10}, true, 3},
          {{4, 2, 2}, 2, 7, {0, 3, 4, 7, 14, 14, 14}, true, 1},
          {{3, 1, 4}, 3, 5, {0, 5, 10, 11, 15, 15}, false, 0},
          {{2, 1, 2}, 3, 4, {0, 4, 8, 12, 12}, true, 0}};
}

}  // namespace transxssm
