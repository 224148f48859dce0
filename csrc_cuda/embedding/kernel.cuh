// Token embedding, device code. Backward goes over the places of all tokens sorted by token (stably, so that
// the order of every sum is that of the places): chunks of a fixed number of places sum their runs of equal
// tokens, runs that cross a border leave partial sums, which the chunk where the run begins adds up.
#pragma once

#include "csrc_cuda/common/vec_io.cuh"
#include "csrc_cuda/embedding/params.h"

namespace transxssm::kernels {

inline constexpr int kEmbeddingChunk = 32;     // places of a block
inline constexpr int kEmbeddingAhead = 8;      // rows on their way at a time
inline constexpr int kEmbeddingThreads = 128;  // eight columns each, in turns

template <int kThreads>
__global__ void __launch_bounds__(kThreads) embedding_fwd_kernel(const EmbeddingForwardParams p) {
  const unsigned vectors = static_cast<unsigned>(p.d / kVectorWidth);
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= p.count * vectors) return;
  const unsigned place = static_cast<unsigned>(i) / vectors, vector = static_cast<unsigned>(i) % vectors;
  const auto* row = static_cast<const __nv_bfloat16*>(p.table) + p.tokens[place] * p.d;
  reinterpret_cast<uint4*>(p.out)[i] = load_bits(row + vector * kVectorWidth);
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    number_places_kernel(const int64_t* tokens, int* keys, int* places, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  keys[i] = static_cast<int>(tokens[i]);
  places[i] = static_cast<int>(i);
}

struct SortedPlaces {
  const int* keys;    // [count] tokens, ascending
  const int* places;  // [count] where they came from
  float*
      partial;  // [chunks, 2, d]: of the run that began before the chunk, and of the one that goes on after
};

__device__ inline void add_vector(float* to, const Float8& v) {
  Float8 sum = load_vector(to);
#pragma unroll
  for (int j = 0; j < kVectorWidth; ++j) sum.x[j] += v.x[j];
  store_vector(to, sum);
}

// A block per chunk.
__global__ void __launch_bounds__(kEmbeddingThreads)
    embedding_bwd_kernel(const EmbeddingBackwardParams p, const SortedPlaces s) {
  __shared__ int keys[kEmbeddingChunk], places[kEmbeddingChunk];
  const int64_t first = int64_t{blockIdx.x} * kEmbeddingChunk;
  const int count = static_cast<int>(p.count - first < kEmbeddingChunk ? p.count - first : kEmbeddingChunk);
  if (threadIdx.x < count) {
    keys[threadIdx.x] = s.keys[first + threadIdx.x];
    places[threadIdx.x] = s.places[first + threadIdx.x];
  }
  __syncthreads();
  const bool began_before = first > 0 && s.keys[first - 1] == keys[0];
  const bool goes_on = first + count < p.count && s.keys[first + count] == keys[count - 1];
  const auto* dy = static_cast<const __nv_bfloat16*>(p.dy);
  for (int64_t column = threadIdx.x * kVectorWidth; column < p.d;
       column += kEmbeddingThreads * kVectorWidth) {
    float* partial = s.partial + int64_t{blockIdx.x} * 2 * p.d + column;
    Float8 sum{};
    bool first_run = true;
    for (int begin = 0; begin < count; begin += kEmbeddingAhead) {
      uint4 rows[kEmbeddingAhead];
#pragma unroll
      for (int k = 0; k < kEmbeddingAhead; ++k)
        if (begin + k < count) rows[k] = load_bits(dy + places[begin + k] * p.d + column);
#pragma unroll
      for (int k = 0; k < kEmbeddingAhead; ++k) {
        const int i = begin + k;
        if (i >= count) break;
        const Float8 row = to_values(rows[k]);
#pragma unroll
        for (int j = 0; j < kVectorWidth; ++j) sum.x[j] += row.x[j];
        const bool last = i + 1 == count;
        if (!last && keys[i + 1] == keys[i]) continue;
        if (first_run && began_before)
          store_vector(partial, sum);
        else if (last && goes_on)
          store_vector(partial + p.d, sum);
        else
          add_vector(p.grad + keys[i] * p.d + column, sum);
        sum = Float8{};
        first_run = false;
      }
    }
  }
}

// A block per chunk: those in whose chunk a run begins that goes on after it.
__global__ void __launch_bounds__(kEmbeddingThreads)
    embedding_border_kernel(const EmbeddingBackwardParams p, const SortedPlaces s) {
  const int64_t first = int64_t{blockIdx.x} * kEmbeddingChunk, next = first + kEmbeddingChunk;
  if (next >= p.count) return;
  const int key = s.keys[next];
  const bool begins_here = s.keys[next - 1] == key && (first == 0 || s.keys[first - 1] != key);
  if (!begins_here) return;
  for (int64_t column = threadIdx.x * kVectorWidth; column < p.d;
       column += kEmbeddingThreads * kVectorWidth) {
    Float8 sum = load_vector(s.partial + (int64_t{blockIdx.x} * 2 + 1) * p.d + column);
    for (int64_t at = next; at < p.count && s.keys[at] == key; at += kEmbeddingChunk) {
      const Float8 more = load_vector(s.partial + at / kEmbeddingChunk * 2 * p.d + column);
#pragma unroll
      for (int j = 0; j < kVectorWidth; ++j) sum.x[j] += more.x[j];
    }
    add_vector(p.grad + key * p.d + column, sum);
  }
}

}  // namespace transxssm::kernels
