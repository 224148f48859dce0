// SwiGLU, host side.
#include <limits>

#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/swiglu/kernel.cuh"

namespace transxssm::kernels {
namespace {

constexpr int kThreads = 256;

unsigned blocks(int64_t rows, int64_t f) {
  const int64_t vectors = rows * (f / kVectorWidth);
  expect(f % kVectorWidth == 0 && vectors <= std::numeric_limits<int32_t>::max(),
         concat("swiglu: rows of a multiple of 8 values expected, at most 2^31 vectors of 8; got ", rows,
                " of ", f));
  return static_cast<unsigned>((vectors + kThreads - 1) / kThreads);
}

}  // namespace

void swiglu_forward(const SwigluForwardParams& p, CUstream_st* stream) {
  if (p.rows * p.f == 0) return;
  launch("swiglu_forward", swiglu_fwd_kernel<kThreads>, {blocks(p.rows, p.f), kThreads, 0, stream}, p);
}

void swiglu_backward(const SwigluBackwardParams& p, CUstream_st* stream) {
  if (p.rows * p.f == 0) return;
  launch("swiglu_backward", swiglu_bwd_kernel<kThreads>, {blocks(p.rows, p.f), kThreads, 0, stream}, p);
}

}  // namespace transxssm::kernels
