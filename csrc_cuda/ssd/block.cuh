// What a thread block of the scan works on.
#pragma once

#include "csrc_cuda/ssd/params.h"

namespace transxssm::kernels {

__device__ inline int row_chunks(const SsdInputs& in) { return (in.tokens + kSsdChunk - 1) / kSsdChunk; }
__device__ inline int row_spans(const SsdInputs& in) {
  return (in.tokens + kSsdTokensPerState - 1) / kSsdTokensPerState;
}

struct SsdBlock {
  int b, h, group;
  int segment, first_chunk, last_chunk;  // chunks [first_chunk, last_chunk); segments are whole spans

  __device__ SsdBlock(const SsdInputs& in, int batch_index, int head, int segment_index)
      : b(batch_index), h(head), group(head / (in.heads / in.groups)), segment(segment_index) {
    const int chunks_per_segment = (row_spans(in) + in.segments - 1) / in.segments * kSsdChunksPerSpan;
    first_chunk = min(segment * chunks_per_segment, row_chunks(in));
    last_chunk = min(first_chunk + chunks_per_segment, row_chunks(in));
  }

  // Of a grid H, B, segments.
  __device__ static SsdBlock current(const SsdInputs& in) {
    return {in, static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.z)};
  }

  __device__ int chunks() const { return last_chunk - first_chunk; }
  __device__ int64_t row(const SsdInputs& in) const { return int64_t{b} * in.heads + h; }
  // First columns in the packed projection.
  __device__ int c_column() const { return group * kSsdWidth; }
  __device__ int b_column(const SsdInputs& in) const { return (in.groups + group) * kSsdWidth; }
  __device__ int x_column(const SsdInputs& in) const { return (2 * in.groups + h) * kSsdWidth; }
};

}  // namespace transxssm::kernels
