// The SSD decode step, host side.
#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/common/vec_io.cuh"
#include "csrc_cuda/ssd/step_kernel.cuh"

namespace transxssm::kernels {
namespace {

constexpr int kThreads = 128;

template <class T, int kRows>
void launch_step(const SsdStepParams& p, CUstream_st* stream) {
  constexpr int kRowsPerBlock = kRows * kThreads / kWarpSize;
  const dim3 grid(kSsdStepWidth / kRowsPerBlock, static_cast<unsigned>(p.heads),
                  static_cast<unsigned>(p.batch));
  launch("ssd_step", ssd_step_kernel<T, kRows, kThreads>, {grid, kThreads, 0, stream}, p);
}

// Long rows of loads for many heads; for few, more blocks, so that all of the GPU takes part.
template <class T>
void launch_step(const SsdStepParams& p, CUstream_st* stream) {
  constexpr int kManyHeads = 64;
  if (p.batch * p.heads >= kManyHeads)
    launch_step<T, 8>(p, stream);
  else
    launch_step<T, 2>(p, stream);
}

}  // namespace

void ssd_step(const SsdStepParams& p, CUstream_st* stream) {
  expect(is_vector_aligned(p.state), "ssd_step: the state must start at a multiple of 16 bytes");
  expect(p.batch <= 65535 && p.heads <= 65535, "ssd_step: more than 65535 sequences or heads");
  if (p.batch == 0) return;
  if (p.is_bf16)
    launch_step<__nv_bfloat16>(p, stream);
  else
    launch_step<float>(p, stream);
}

}  // namespace transxssm::kernels
