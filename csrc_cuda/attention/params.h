// Causal attention by cuDNN (ops/attention.h), bf16: queries, keys and values are read in place from a packed
// projection. GPUs of compute capability 9.0 and above.
#pragma once

#include <compare>
#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to

namespace transxssm::kernels {

// What cuDNN's plans depend on. A plan is made at its first use or ahead of it, and kept.
struct AttentionShape {
  int64_t batch, tokens;   // B rows of T tokens
  int64_t documents;       // N, capacity of the offsets; B: every row is one document
  int heads, kv_heads;     // H, G; G divides H
  int width;               // P: 64 or 128
  int64_t packed_columns;  // row stride of packed; B·T·columns < 2^31: cuDNN's offsets have 32 bits
  bool deterministic;      // the backward pass gives the same bits in every run
};

enum class AttentionPass { inference, forward, backward };  // inference saves nothing for backward

// Where cuDNN finds the documents: made on the device, anew for each pass. None where
// attention_takes_rows (document_classes.h).
struct AttentionTablesParams {
  AttentionShape shape;
  AttentionPass pass;
  const int32_t* offsets;  // [N + 1], ops/documents.h
  int32_t* tables;         // [attention_table_words(shape, pass)]
};

struct AttentionForwardParams {
  AttentionShape shape;
  const void* packed;     // bf16 [B, T, columns]: Q [H·P] | K [G·P] | V [G·P] | anything; Q and K rotated
  const int32_t* tables;  // of pass forward
  void* out;              // bf16 [B, T, H·P]
  float* log_sum_exp;     // [B, T, H], [B, H, T] where attention_takes_rows; null to save none
  void* workspace;        // attention_workspace_bytes(shape, forward or inference)
};

struct AttentionBackwardParams {
  AttentionShape shape;
  const void* packed;
  const int32_t* tables;  // of pass backward
  const void* out;
  const float* log_sum_exp;
  const void* d_out;  // bf16 [B, T, H·P]
  void* d_query;      // bf16 [B, T, H·P], row stride packed_columns
  void* d_key;        // bf16 [B, T, G·P], row stride attention_key_gradient_row(shape)
  void* d_value;
  void* workspace;  // attention_workspace_bytes(shape, backward)
};

bool attention_has_kernels();  // whether this build has them

int64_t attention_table_words(const AttentionShape& shape, AttentionPass pass);  // 0 for rows
int64_t attention_workspace_bytes(const AttentionShape& shape, AttentionPass pass);

// Makes the plans of both passes side by side. Where the driver has their kernels in its cache they take some
// 0.1 s each, else 0.8 s.
void prepare_attention(const AttentionShape& shape);

void make_attention_tables(const AttentionTablesParams& p, CUstream_st* stream);
void attention_forward(const AttentionForwardParams& p, CUstream_st* stream);
void attention_backward(const AttentionBackwardParams& p, CUstream_st* stream);

}  // namespace transxssm::kernels
