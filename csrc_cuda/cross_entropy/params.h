// Cross-entropy of rows of bf16 logits and its gradient in their place; ops/cross_entropy.h holds the
// formula.
#pragma once

#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to

namespace transxssm::kernels {

// Logits' rows are padded to whole 16-byte vectors, so that every vocabulary takes the same path.
inline constexpr int64_t kLogitsAlignment = 8;  // in elements

struct CrossEntropyParams {
  void* logits_bf16;   // [rows, row_stride], 16-byte aligned; with `gradient` overwritten by it, padding by
                       // anything
  int64_t row_stride;  // a multiple of kLogitsAlignment, at least vocabulary
  const int64_t* labels;  // [rows]; negative: not counted, losses 0, gradient 0, logits not read
  float* losses;          // [rows] −log p[label]
  float* objectives;      // [rows] losses + z_loss · log²Z
  const float* scale;     // one value, of the gradient; null means 1
  int64_t rows, vocabulary;
  float z_loss;
  bool gradient;
};

struct CrossEntropySumParams {
  const float* losses;      // [rows]
  const float* objectives;  // [rows]
  int64_t rows;
  const float* scale;  // one value; null means 1
  float* loss;         // scale · Σ losses
  float* objective;    // scale · Σ objectives
};

void cross_entropy(const CrossEntropyParams& p, CUstream_st* stream);
void cross_entropy_sum(const CrossEntropySumParams& p, CUstream_st* stream);  // in f64, in a fixed order

}  // namespace transxssm::kernels
