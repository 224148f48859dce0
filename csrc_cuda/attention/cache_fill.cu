// Filling the cache, host side.
#include "csrc_cuda/attention/cache_fill_kernel.cuh"
#include "csrc_cuda/common/launch.cuh"

namespace transxssm::kernels {
namespace {

template <int kWidth>
void launch_fill(const CacheFillParams& p, cudaStream_t stream) {
  const int64_t threads = p.tokens * (kWidth / 2 / kVectorWidth);
  const dim3 grid(static_cast<unsigned>((threads + kCacheFillThreads - 1) / kCacheFillThreads),
                  static_cast<unsigned>(p.kv_heads), static_cast<unsigned>(p.batch));
  launch("cache_fill", cache_fill_kernel<kWidth>, {grid, kCacheFillThreads, 0, stream}, p);
}

}  // namespace

void cache_fill(const CacheFillParams& p, CUstream_st* stream) {
  expect(p.width == 64 || p.width == 128, concat("cache_fill: expected heads 64 or 128 wide, got ", p.width));
  expect(p.tokens <= p.capacity,
         concat("cache_fill: ", p.tokens, " tokens exceed the capacity of ", p.capacity));
  for (const void* pointer :
       {p.packed_keys, static_cast<const void*>(p.keys), static_cast<const void*>(p.values),
        static_cast<const void*>(p.rope_cos), static_cast<const void*>(p.rope_sin)})
    expect(is_vector_aligned(pointer), "cache_fill: tensors must start at a multiple of 16 bytes");
  expect(p.packed_row_stride % kVectorWidth == 0,
         concat("cache_fill: expected rows of whole vectors of 8 values, got a stride of ",
                p.packed_row_stride));
  expect(p.batch <= 65535 && p.kv_heads <= 65535, "cache_fill: more than 65535 sequences or heads");
  if (p.batch == 0 || p.tokens == 0) return;
  p.width == 64 ? launch_fill<64>(p, stream) : launch_fill<128>(p, stream);
}

}  // namespace transxssm::kernels
