// Documents by length, for calls of cuDNN that each take those of one class.
#pragma once

#include <algorithm>

#include "csrc_cuda/attention/params.h"

namespace transxssm::kernels {

// Whether every row is one document that cuDNN can take as a plain sequence: it refuses those of one token.
inline bool rows_are_sequences(const AttentionShape& s) { return s.documents == s.batch && s.tokens > 1; }

// Whether a backward pass keeps the gradients of all scores of a call, bf16 in blocks of 128, in cuDNN's
// workspace: its deterministic algorithm does. The other sums dQ by atomic additions; with tables of
// documents it is not known to be safe (docs/kernels.md).
inline bool attention_keeps_scores(const AttentionShape& s) {
  return s.deterministic || !rows_are_sequences(s);
}

// Documents of `shorter` + 1 to `longest` tokens.
struct DocumentClass {
  int64_t shorter, longest;
  int64_t capacity;    // no batch has more of them
  int64_t first_word;  // of its table
};

// A table, for a class of capacity C: offsets of the documents' first values in tensors whose rows hold the
// packed columns, H·P, G·P and H values, [4, C + 1]; lengths in tokens, [C], in C + 1 words.
// Documents stand in their order; entries that remain are empty documents at the end.
inline constexpr int kTableRows = 5;
inline int64_t table_words(const DocumentClass& c) { return kTableRows * (c.capacity + 1); }

inline constexpr int kMostDocumentClasses = 8;

struct DocumentClasses {
  DocumentClass of[kMostDocumentClasses];  // device code reads it: no std::array
  int count;
};

// One class, but for the backward pass: its workspace is capacity · longest² and would not fit with short
// documents in the company of long ones. There each class is half as long as the one before, and a row holds
// few of the long.
inline DocumentClasses document_classes(const AttentionShape& s, AttentionPass pass) {
  constexpr int64_t kShort = 512;
  const bool by_length = pass == AttentionPass::backward && attention_keeps_scores(s);
  DocumentClasses classes{};
  int64_t longest = s.tokens, word = 0;
  for (bool last = false; !last; longest = (longest + 1) / 2) {
    last = !by_length || longest <= kShort || s.documents == s.batch ||
           classes.count + 1 == kMostDocumentClasses;
    DocumentClass c{last ? 0 : (longest + 1) / 2, longest, s.documents, word};
    c.capacity = std::min(c.capacity, s.batch * (s.tokens / (c.shorter + 1)));
    word += table_words(c);
    classes.of[classes.count++] = c;
  }
  return classes;
}

inline int64_t score_bytes_of_key_head(const AttentionShape& s, const DocumentClass& c) {
  if (!attention_keeps_scores(s)) return 0;
  const int64_t longest = (c.longest + 127) / 128 * 128;
  return 2 * c.capacity * longest * longest * (s.heads / s.kv_heads);
}

// What a backward pass keeps of the scores of one row, all heads.
inline int64_t score_bytes_of_row(const AttentionShape& s) {
  return s.kv_heads * score_bytes_of_key_head(s, DocumentClass{0, s.tokens, /*capacity=*/1, 0});
}

// Bounds of a call of the backward pass: of some heads with tables, of some rows, and of one row (16 heads,
// 16 384 tokens). Half as many rows a call take 4 % longer.
inline constexpr int64_t kMostScoreBytes = int64_t{2} << 30;
inline constexpr int64_t kMostScoreBytesOfRows = int64_t{4} << 30;
inline constexpr int64_t kMostScoreBytesOfRow = int64_t{8} << 30;

// Whether calls take whole rows, [B, heads, T, P], without tables of documents: faster, forward and backward.
// A backward pass of some of the heads would read the log-sum-exp wrongly then, so all of a row's must fit.
inline bool attention_takes_rows(const AttentionShape& s) {
  return rows_are_sequences(s) && score_bytes_of_row(s) <= kMostScoreBytesOfRow;
}

// Rows of a backward pass's call where calls take rows: as many as stay within bounds, one at least.
inline int64_t rows_at_once(const AttentionShape& s) {
  int64_t rows = s.batch;
  while (rows > 1 && (rows * score_bytes_of_row(s) > kMostScoreBytesOfRows || s.batch % rows != 0)) --rows;
  return rows;
}

// Key heads of a backward pass's call: all of a row's; with tables as many as stay within bounds, one at
// least.
inline int key_heads_at_once(const AttentionShape& s, const DocumentClass& c) {
  int heads = s.kv_heads;
  if (attention_takes_rows(s)) return heads;
  while (heads > 1 && (heads * score_bytes_of_key_head(s, c) > kMostScoreBytes || s.kv_heads % heads != 0))
    --heads;
  return heads;
}

// Row stride of d_key and d_value. With tables cuDNN sums the gradients of query heads that share a key head
// in memory laid out like their sum, with as many gaps: they are kept close together then.
inline int64_t attention_key_gradient_row(const AttentionShape& s) {
  const bool packed = s.heads == s.kv_heads || attention_takes_rows(s);
  return packed ? s.packed_columns : int64_t{s.kv_heads} * s.width;
}

// Nearly all of attention_workspace_bytes of the backward pass, known without a GPU.
inline int64_t attention_backward_bytes(const AttentionShape& s) {
  const int64_t values = s.batch * s.tokens * s.heads * s.width;
  int64_t most = attention_keeps_scores(s) ? 0 : 4 * values;  // dQ in f32
  if (attention_takes_rows(s)) {
    most += rows_at_once(s) * score_bytes_of_row(s);
  } else {
    const DocumentClasses classes = document_classes(s, AttentionPass::backward);
    for (int i = 0; i < classes.count; ++i)
      most = std::max(most, key_heads_at_once(s, classes.of[i]) * score_bytes_of_key_head(s, classes.of[i]));
  }
  // dK and dV of all query heads.
  return most + (s.heads == s.kv_heads ? 0 : 2 * values * (attention_takes_rows(s) ? 2 : 4));
}

}  // namespace transxssm::kernels
