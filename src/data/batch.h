// What the loader hands over: one micro-batch on the host.
#pragma once

#include <cstdint>
#include <vector>

namespace transxssm {

// B sequences of T tokens, row by row.
struct Batch {
  int64_t batch = 0;            // B
  int64_t seq_len = 0;          // T
  std::vector<int64_t> tokens;  // [B·T]
  std::vector<int64_t> labels;  // [B·T]: the next token; −1 where it is not counted (after a document's end)
  std::vector<int32_t> document_offsets;  // [capacity + 1], see ops/documents.h; row starts are always
                                          // borders (capacity: data/packing.h document_capacity)
  int64_t counted_labels = 0;             // labels ≥ 0 in this micro-batch
};

// The micro-batches of one optimizer step.
struct GlobalBatch {
  std::vector<Batch> micro_batches;
  int64_t counted_labels = 0;  // of the whole global batch, over all ranks
};

}  // namespace transxssm
