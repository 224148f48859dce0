// From windows of a token stream to a micro-batch: labels, and where documents lie.
#pragma once

#include <cstdint>
#include <vector>

#include "config/data_config.h"
#include "data/batch.h"

namespace transxssm {

// T + 1 consecutive tokens and the places in [1, T] where a document starts, ascending.
struct Window {
  std::vector<int32_t> tokens;
  std::vector<int64_t> document_starts;
};

// Row b of the batch is window b; the label of a token is the one after it.
// isolated: every document of a window stands alone, and so does the rest of one that the window cuts; the
// label after a document's last token is not counted. concatenated: a row is one document, every label
// counts.
Batch pack(const std::vector<Window>& windows, Packing packing);

// Labels that pack() counts in a window of `seq_len` labels with `document_starts` documents that start in
// it.
int64_t counted_labels(int64_t seq_len, size_t document_starts, Packing packing);

// Entries (without the last offset) of document_offsets for a micro-batch that holds `documents`.
// concatenated: B. isolated: room for documents of 512 tokens on average, and twice, four times … that for
// batches with shorter ones, so a corpus of ordinary documents has one capacity for the whole run and none is
// ever too small.
int64_t document_capacity(int64_t batch, int64_t seq_len, Packing packing, int64_t documents);

}  // namespace transxssm
