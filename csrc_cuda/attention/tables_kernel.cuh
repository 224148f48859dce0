// Tables of documents, device code.
#pragma once

#include "csrc_cuda/attention/document_classes.h"

namespace transxssm::kernels {

struct TablesKernelParams {
  const int32_t* offsets;  // [documents + 1]
  int32_t* tables;
  int64_t documents;
  int32_t rows[kTableRows - 1];  // row strides in values
  DocumentClasses classes;
};

inline constexpr int kTablesThreads = 1024;

__device__ inline void write_entry(const TablesKernelParams& p, const DocumentClass& c, int64_t entry,
                                   int token, int length) {
  int32_t* table = p.tables + c.first_word;
  for (int r = 0; r < kTableRows - 1; ++r) table[r * (c.capacity + 1) + entry] = token * p.rows[r];
  if (entry < c.capacity) table[(kTableRows - 1) * (c.capacity + 1) + entry] = length;
}

// A block per class, which keeps the order of documents: a thousand at a time find their places by counting
// those before them.
__global__ void __launch_bounds__(kTablesThreads) attention_tables_kernel(const TablesKernelParams p) {
  constexpr int kWarps = kTablesThreads / 32;
  const DocumentClass c = p.classes.of[blockIdx.x];
  __shared__ int of_warp[kWarps];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int64_t taken = 0;
  for (int64_t first = 0; first < p.documents; first += kTablesThreads) {
    const int64_t d = first + threadIdx.x;
    const int begin = d < p.documents ? p.offsets[d] : 0;
    const int length = d < p.documents ? p.offsets[d + 1] - begin : 0;
    const bool member = length > c.shorter && length <= c.longest;
    const unsigned members = __ballot_sync(0xffffffffu, member);
    if (lane == 0) of_warp[warp] = __popc(members);
    __syncthreads();
    int64_t entry = taken + __popc(members & ((1u << lane) - 1));
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp) entry += of_warp[w];
      taken += of_warp[w];
    }
    if (member) write_entry(p, c, entry, begin, length);
    __syncthreads();
  }
  const int tokens = p.offsets[p.documents];
  for (int64_t entry = taken + threadIdx.x; entry <= c.capacity; entry += kTablesThreads)
    write_entry(p, c, entry, tokens, 0);
}

}  // namespace transxssm::kernels
