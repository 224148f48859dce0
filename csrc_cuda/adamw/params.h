// AdamW over a flat buffer in one pass; ops/adamw.h holds the formula.
#pragma once

#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to

namespace transxssm::kernels {

struct AdamWParams {
  float* master;  // [n], like m, v and grad; all pointers to arrays 16-byte aligned
  float* m;
  float* v;
  const float* grad;
  void* compute_bf16;  // [n] rounded copy of the new master, or null
  int64_t n;
  // Scalars in device memory, so that a captured graph reads their current values.
  const float* lr;
  const int64_t* step;  // from 1
  const float* grad_scale;
  const bool* apply;  // false: nothing is written
  double beta1, beta2;
  float eps, weight_decay;
};

void adamw(const AdamWParams& p, CUstream_st* stream);

}  // namespace transxssm::kernels
