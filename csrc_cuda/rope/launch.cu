// The rotary embedding, host side.
#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/rope/kernel.cuh"

namespace transxssm::kernels {
namespace {

template <int kWidth>
void rotate_width(const RotateHeadsParams& p, cudaStream_t stream) {
  const int64_t groups = (p.heads + kHeadsPerThread - 1) / kHeadsPerThread;
  const int64_t threads = p.tokens * groups * (kWidth / 2 / kVectorWidth);
  expect(threads < int64_t{1} << 31, concat("rotate_heads: expected fewer than 2^35 values, got ", p.tokens,
                                            " tokens of ", p.heads, " heads"));
  const auto blocks = static_cast<unsigned>((threads + kRotateThreads - 1) / kRotateThreads);
  const LaunchShape shape{blocks, kRotateThreads, 0, stream};
  if (p.inverse)
    launch("rotate_heads", rotate_heads_kernel<kWidth, true>, shape, p);
  else
    launch("rotate_heads", rotate_heads_kernel<kWidth, false>, shape, p);
}

}  // namespace

void rotate_heads(const RotateHeadsParams& p, CUstream_st* stream) {
  expect(p.width == 64 || p.width == 128,
         concat("rotate_heads: expected heads 64 or 128 wide, got ", p.width));
  for (const void* pointer : {p.from, static_cast<const void*>(p.to)})
    expect(is_vector_aligned(pointer), "rotate_heads: heads must start at a multiple of 16 bytes");
  expect(p.from_row % kVectorWidth == 0 && p.to_row % kVectorWidth == 0,
         concat("rotate_heads: expected rows of whole vectors of 8 values, got strides ", p.from_row, " and ",
                p.to_row));
  if (p.tokens == 0) return;
  p.width == 64 ? rotate_width<64>(p, stream) : rotate_width<128>(p, stream);
}

}  // namespace transxssm::kernels
