// Token embedding, host side: the sort is CUB's.
#include <bit>
#include <cub/device/device_radix_sort.cuh>
#include <limits>

#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/embedding/kernel.cuh"

namespace transxssm::kernels {
namespace {

constexpr int kThreads = 256;

unsigned blocks(int64_t items, int64_t of_block) {
  return static_cast<unsigned>((items + of_block - 1) / of_block);
}

// Parts of the workspace, in this order.
struct Workspace {
  size_t numbers, partial, sort;  // bytes

  Workspace(int64_t count, int64_t d, int64_t vocabulary) {
    const auto aligned = [](size_t bytes) { return (bytes + 255) / 256 * 256; };
    numbers = aligned(static_cast<size_t>(count) * sizeof(int));
    partial = aligned(static_cast<size_t>(blocks(count, kEmbeddingChunk)) * 2 * static_cast<size_t>(d) *
                      sizeof(float));
    sort = 0;
    check_cuda(cub::DeviceRadixSort::SortPairs(nullptr, sort, static_cast<const int*>(nullptr),
                                               static_cast<int*>(nullptr), static_cast<const int*>(nullptr),
                                               static_cast<int*>(nullptr), static_cast<int>(count), 0,
                                               bits(vocabulary)),
               "embedding_backward sort");
  }
  size_t bytes() const { return 4 * numbers + partial + sort; }

  // Of the keys that are not all zero.
  static int bits(int64_t vocabulary) {
    return std::max(1, static_cast<int>(std::bit_width(static_cast<uint64_t>(vocabulary - 1))));
  }
};

void check(const char* name, int64_t count, int64_t d) {
  expect(d % kVectorWidth == 0 && count * (d / kVectorWidth) <= std::numeric_limits<int32_t>::max(),
         concat(name, ": rows of a multiple of 8 values expected, at most 2^31 vectors of 8; got ", count,
                " of ", d));
}

}  // namespace

size_t embedding_workspace_bytes(int64_t count, int64_t d, int64_t vocabulary) {
  return Workspace(count, d, vocabulary).bytes();
}

void embedding_forward(const EmbeddingForwardParams& p, CUstream_st* stream) {
  check("embedding_forward", p.count, p.d);
  if (p.count == 0) return;
  launch("embedding_forward", embedding_fwd_kernel<kThreads>,
         {blocks(p.count * (p.d / kVectorWidth), kThreads), kThreads, 0, stream}, p);
}

void embedding_backward(const EmbeddingBackwardParams& p, CUstream_st* stream) {
  check("embedding_backward", p.count, p.d);
  if (p.count == 0) return;
  Workspace parts(p.count, p.d, p.vocabulary);
  auto* next = static_cast<char*>(p.workspace);
  int* numbers[4];  // tokens and places, as they come and sorted
  for (int*& part : numbers) {
    part = reinterpret_cast<int*>(next);
    next += parts.numbers;
  }
  const SortedPlaces sorted{numbers[2], numbers[3], reinterpret_cast<float*>(next)};
  next += parts.partial;
  launch("embedding_backward places", number_places_kernel<kThreads>,
         {blocks(p.count, kThreads), kThreads, 0, stream}, p.tokens, numbers[0], numbers[1], p.count);
  check_cuda(
      cub::DeviceRadixSort::SortPairs(next, parts.sort, numbers[0], numbers[2], numbers[1], numbers[3],
                                      static_cast<int>(p.count), 0, Workspace::bits(p.vocabulary), stream),
      "embedding_backward sort");
  const LaunchShape chunks{blocks(p.count, kEmbeddingChunk), kEmbeddingThreads, 0, stream};
  launch("embedding_backward", embedding_bwd_kernel, chunks, p, sorted);
  launch("embedding_backward borders", embedding_border_kernel, chunks, p, sorted);
}

}  // namespace transxssm::kernels
