// AdamW, host side.
#include <cmath>
#include <limits>

#include "csrc_cuda/adamw/kernel.cuh"
#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/common/vec_io.cuh"

namespace transxssm::kernels {
namespace {

AdamWBetas betas(const AdamWParams& p) {
  const auto f32 = [](double x) { return static_cast<float>(x); };
  return {f32(p.beta1),     f32(p.beta2),           f32(1 - p.beta1),
          f32(1 - p.beta2), f32(std::log(p.beta1)), f32(std::log(p.beta2))};
}

}  // namespace

void adamw(const AdamWParams& p, CUstream_st* stream) {
  constexpr int kThreads = 256;
  constexpr int64_t kOfBlock = kThreads * kAdamWWidth;
  if (p.n == 0) return;
  for (const void* pointer :
       {static_cast<const void*>(p.master), static_cast<const void*>(p.m), static_cast<const void*>(p.v),
        static_cast<const void*>(p.grad), static_cast<const void*>(p.compute_bf16)})
    expect(is_vector_aligned(pointer), "adamw: buffers must start at a multiple of 16 bytes");
  const int64_t blocks = (p.n + kOfBlock - 1) / kOfBlock;
  expect(blocks <= std::numeric_limits<int32_t>::max(), concat("adamw: ", p.n, " elements are too many"));
  launch("adamw", adamw_kernel<kThreads>, {static_cast<unsigned>(blocks), kThreads, 0, stream}, p, betas(p));
}

}  // namespace transxssm::kernels
