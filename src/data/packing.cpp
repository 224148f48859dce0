// Rows, labels and document offsets of a micro-batch.
#include "data/packing.h"

#include <algorithm>
#include <limits>

#include "core/check.h"

namespace transxssm {

namespace {

constexpr int64_t kUsualDocumentTokens = 512;
constexpr int64_t kNotCounted = -1;

void pack_row(const Window& window, int64_t row, bool isolated, Batch& batch) {
  const int64_t seq_len = batch.seq_len;
  const int64_t begin = row * seq_len;
  for (int64_t t = 0; t < seq_len; ++t) {
    batch.tokens[begin + t] = window.tokens[t];
    batch.labels[begin + t] = window.tokens[t + 1];
  }
  batch.document_offsets.push_back(static_cast<int32_t>(begin));
  if (!isolated) return;
  int64_t previous = 0;
  for (const int64_t start : window.document_starts) {
    expect(start > previous && start <= seq_len, concat("document start ", start, " after ", previous));
    previous = start;
    batch.labels[begin + start - 1] = kNotCounted;
    if (start < seq_len) batch.document_offsets.push_back(static_cast<int32_t>(begin + start));
  }
}

}  // namespace

int64_t document_capacity(int64_t batch, int64_t seq_len, Packing packing, int64_t documents) {
  int64_t capacity = batch;
  if (packing == Packing::isolated) capacity += batch * seq_len / kUsualDocumentTokens;
  while (capacity < documents) capacity *= 2;
  return std::min(capacity, batch * seq_len);
}

int64_t counted_labels(int64_t seq_len, size_t document_starts, Packing packing) {
  return packing == Packing::isolated ? seq_len - static_cast<int64_t>(document_starts) : seq_len;
}

Batch pack(const std::vector<Window>& windows, Packing packing) {
  expect(!windows.empty() && windows[0].tokens.size() >= 2, "a micro-batch needs a window of two tokens");
  Batch batch;
  batch.batch = static_cast<int64_t>(windows.size());
  batch.seq_len = static_cast<int64_t>(windows[0].tokens.size()) - 1;
  const int64_t size = batch.batch * batch.seq_len;
  expect(size <= std::numeric_limits<int32_t>::max(), "document offsets are 32 bits wide");
  batch.tokens.resize(size);
  batch.labels.resize(size);
  for (int64_t row = 0; row < batch.batch; ++row) {
    expect(static_cast<int64_t>(windows[row].tokens.size()) == batch.seq_len + 1,
           "windows of different lengths");
    pack_row(windows[row], row, packing == Packing::isolated, batch);
    batch.counted_labels += counted_labels(batch.seq_len, windows[row].document_starts.size(), packing);
  }
  const auto documents = static_cast<int64_t>(batch.document_offsets.size());
  const int64_t capacity = document_capacity(batch.batch, batch.seq_len, packing, documents);
  batch.document_offsets.resize(capacity + 1, static_cast<int32_t>(size));
  return batch;
}

}  // namespace transxssm
