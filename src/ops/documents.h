// Where documents lie in a micro-batch. Every operator that mixes tokens takes one, so that no token sees
// another document: attention mask, SSM state, convolution and positions all restart at a document's first
// token.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace transxssm::ops {

// The B·T tokens of a micro-batch, flattened row by row, are cut into documents. A window's first token
// always starts a document, so none crosses a row.
struct Documents {
  // i32 [capacity + 1], not decreasing, first 0, last B·T: document d is [offsets[d], offsets[d + 1]). The
  // capacity is fixed for a run (captured graphs need fixed shapes); unused entries at the end are empty
  // documents. A capacity of B says that every row is one document.
  at::Tensor offsets;
  at::Tensor ids;            // i32 [B, T]: the document of each token
  at::Tensor positions;      // i64 [B, T]: place inside the document, from 0 (or from `first_position`)
  int64_t batch = 0;         // B
  int64_t seq_len = 0;       // T
  int64_t position_end = 0;  // no position reaches it: known on the host, unlike the positions themselves
};

// Throws unless the offsets go from 0 to B·T, none before the one before it, and no document crosses a row.
void check_document_offsets(at::ArrayRef<int32_t> offsets, int64_t batch, int64_t seq_len);

// Derives ids and positions on the device of `offsets`, without a host sync: the values of offsets on a GPU
// are the caller's to check.
Documents make_documents(const at::Tensor& offsets, int64_t batch, int64_t seq_len);

// One document per row; its first token is at `first_position` (> 0 when a sequence goes on from a state or
// cache).
Documents one_document_per_row(int64_t batch, int64_t seq_len, at::Device device, int64_t first_position = 0);

}  // namespace transxssm::ops
