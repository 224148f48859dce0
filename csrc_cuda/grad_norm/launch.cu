// Sum of squares and norm, host side.
#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/grad_norm/kernel.cuh"

namespace transxssm::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerSm = 8;  // all of an H100's or A100's threads: the grid is resident at once

}  // namespace

void sum_squares(const SumSquaresParams& p, CUstream_st* stream) {
  expect(is_vector_aligned(p.x), "sum_squares: the buffer must start at a multiple of 16 bytes");
  launch("sum_squares", sum_squares_kernel<kThreads, kBlocksPerSm>, {kPartialSums, kThreads, 0, stream}, p);
}

void norm_of_partial_sums(const NormOfPartialSumsParams& p, CUstream_st* stream) {
  launch("norm_of_partial_sums", norm_of_partial_sums_kernel<kThreads>, {1, kThreads, 0, stream}, p);
}

}  // namespace transxssm::kernels
