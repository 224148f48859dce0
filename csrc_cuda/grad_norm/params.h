// Norm of flat buffers in two passes with a fixed partition: the same bits on every run and every GPU.
#pragma once

#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to

namespace transxssm::kernels {

inline constexpr int kPartialSums = 1024;  // of one buffer; its partition depends on nothing but n

struct SumSquaresParams {
  const float* x;  // [n], 16-byte aligned
  int64_t n;
  double* partial_sums;  // [kPartialSums], overwritten
};

struct NormOfPartialSumsParams {
  const double* partial_sums;  // [count]
  int64_t count;
  float* norm;  // √ of the sum
};

void sum_squares(const SumSquaresParams& p, CUstream_st* stream);
void norm_of_partial_sums(const NormOfPartialSumsParams& p, CUstream_st* stream);

}  // namespace transxssm::kernels
