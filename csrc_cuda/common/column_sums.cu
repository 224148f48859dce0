// Adds up partial sums of columns.
#include <algorithm>
#include <iterator>

#include "csrc_cuda/common/column_sums.h"
#include "csrc_cuda/common/launch.cuh"

namespace transxssm::kernels {
namespace {

inline constexpr int kColumnSumWidth = 32;  // columns of a block
inline constexpr int kColumnSumLanes = 32;  // threads that share a column

// Grid: columns / kColumnSumWidth by outputs.
__global__ void __launch_bounds__(kColumnSumWidth* kColumnSumLanes)
    column_sums_kernel(const ColumnSumsParams p) {
  __shared__ float of_lane[kColumnSumLanes][kColumnSumWidth + 1];
  const ColumnSums s = blockIdx.y == 0 ? p.sums[0] : p.sums[1];
  const int in_block = threadIdx.x % kColumnSumWidth, lane = threadIdx.x / kColumnSumWidth;
  const int64_t column = int64_t{blockIdx.x} * kColumnSumWidth + in_block;
  float sum = 0;
  if (s.out != nullptr && column < s.columns) {
#pragma unroll 8
    for (int64_t part = lane; part < p.parts; part += kColumnSumLanes)
      sum += s.partial[part * s.columns + column];
  }
  of_lane[lane][in_block] = sum;
  __syncthreads();
  if (lane != 0 || s.out == nullptr || column >= s.columns) return;
  sum = of_lane[0][in_block];
#pragma unroll
  for (int other = 1; other < kColumnSumLanes; ++other) sum += of_lane[other][in_block];
  s.out[column] += sum;
}

}  // namespace

void add_column_sums(const char* name, const ColumnSumsParams& p, CUstream_st* stream) {
  int64_t columns = 0;
  for (const ColumnSums& sums : p.sums)
    if (sums.out != nullptr) columns = std::max(columns, sums.columns);
  if (columns == 0) return;
  const auto blocks = static_cast<unsigned>((columns + kColumnSumWidth - 1) / kColumnSumWidth);
  launch(name, column_sums_kernel,
         {{blocks, static_cast<unsigned>(std::size(p.sums))}, kColumnSumWidth * kColumnSumLanes, 0, stream},
         p);
}

}  // namespace transxssm::kernels
