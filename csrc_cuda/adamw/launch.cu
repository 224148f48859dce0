// AdamW, host side.
#include "csrc_cuda/adamw/kernel.cuh"
#include "csrc_cuda/common/launch.cuh"

namespace transxssm::kernels {

void adamw(const AdamWParams& p, CUstream_st* stream) {
  constexpr int kThreads = 256;
  constexpr int kBlocksPerSm = 3;  // resident at once, at 80 registers a thread
  if (p.n == 0) return;
  for (const void* pointer :
       {static_cast<const void*>(p.master), static_cast<const void*>(p.m), static_cast<const void*>(p.v),
        static_cast<const void*>(p.grad), static_cast<const void*>(p.compute_bf16)})
    expect(is_vector_aligned(pointer), "adamw: buffers must start at a multiple of 16 bytes");
  const unsigned blocks = grid_stride_blocks(p.n / kVectorWidth, kThreads, kBlocksPerSm, "adamw");
  launch("adamw", adamw_kernel<kThreads, kBlocksPerSm>, {blocks, kThreads, 0, stream}, p);
}

}  // namespace transxssm::kernels
