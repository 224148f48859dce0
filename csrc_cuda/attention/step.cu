// Decode attention, host side.
#include "csrc_cuda/attention/step_kernel.cuh"
#include "csrc_cuda/common/launch.cuh"

namespace transxssm::kernels {
namespace {

template <int kWidth, int kHeads>
void launch_parts(const AttentionStepParams& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(p.splits), static_cast<unsigned>(p.heads / kHeads),
                  static_cast<unsigned>(p.batch));
  launch("attention_step", attention_step_kernel<kWidth, kHeads>, {grid, kStepThreads, 0, stream}, p);
}

template <int kWidth>
void launch_step(const AttentionStepParams& p, cudaStream_t stream) {
  const int heads = attention_step_heads(p.heads, p.kv_heads);
  if (heads == 4)
    launch_parts<kWidth, 4>(p, stream);
  else if (heads == 2)
    launch_parts<kWidth, 2>(p, stream);
  else
    launch_parts<kWidth, 1>(p, stream);
  const dim3 grid(static_cast<unsigned>(p.heads), static_cast<unsigned>(p.batch));
  launch("attention_step_sum", attention_step_sum_kernel<kWidth>, {grid, kWidth, 0, stream}, p);
}

}  // namespace

void attention_step(const AttentionStepParams& p, CUstream_st* stream) {
  expect(p.width == 64 || p.width == 128,
         concat("attention_step: expected heads 64 or 128 wide, got ", p.width));
  for (const void* pointer : {p.packed, static_cast<const void*>(p.keys), static_cast<const void*>(p.values),
                              static_cast<const void*>(p.out), static_cast<const void*>(p.rope_cos),
                              static_cast<const void*>(p.rope_sin)})
    expect(is_vector_aligned(pointer), "attention_step: tensors must start at a multiple of 16 bytes");
  expect(p.packed_row_stride % kVectorWidth == 0,
         concat("attention_step: expected rows of whole vectors of 8 values, got a stride of ",
                p.packed_row_stride));
  expect(p.batch <= 65535 && p.heads <= 65535, "attention_step: more than 65535 sequences or heads");
  if (p.batch == 0) return;
  p.width == 64 ? launch_step<64>(p, stream) : launch_step<128>(p, stream);
}

}  // namespace transxssm::kernels
