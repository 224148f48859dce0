// Token embedding: rows of a table, and their gradient summed by token; ops/embedding.h is the contract.
#pragma once

#include <cstddef>
#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to

namespace transxssm::kernels {

// bf16 rows and the f32 gradient begin at a multiple of 16 bytes; d is a multiple of 8.
struct EmbeddingForwardParams {
  const void* table;      // [vocabulary, d] bf16
  const int64_t* tokens;  // [count], each below vocabulary
  void* out;              // [count, d] bf16
  int64_t count, d;
};

struct EmbeddingBackwardParams {
  const void* dy;         // [count, d] bf16
  const int64_t* tokens;  // [count]
  float* grad;            // [vocabulary, d], added to
  void* workspace;        // embedding_workspace_bytes(), at a multiple of 256 bytes
  int64_t count, d, vocabulary;
};

size_t embedding_workspace_bytes(int64_t count, int64_t d, int64_t vocabulary);
void embedding_forward(const EmbeddingForwardParams& p, CUstream_st* stream);
void embedding_backward(const EmbeddingBackwardParams& p, CUstream_st* stream);

}  // namespace transxssm::kernels
