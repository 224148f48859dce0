// Sums of the columns of a matrix of tokens, added to a gradient: the blocks of a kernel write partial sums
// of their rows, one small kernel adds those up in a fixed order.
#pragma once

#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to

namespace transxssm::kernels {

struct ColumnSums {
  const float* partial;  // [parts, columns]
  float* out;            // [columns], added to; null: nothing to do
  int64_t columns;
};

struct ColumnSumsParams {
  ColumnSums sums[2];
  int64_t parts;
};

void add_column_sums(const char* name, const ColumnSumsParams& p, CUstream_st* stream);

}  // namespace transxssm::kernels
