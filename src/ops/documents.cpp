// Token ids and positions from document offsets.
#include "ops/documents.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/searchsorted.h>

#include "core/check.h"

namespace transxssm::ops {

void check_document_offsets(at::ArrayRef<int32_t> begin, int64_t batch, int64_t seq_len) {
  const int64_t tokens = batch * seq_len;
  expect(begin.size() >= 2, concat("document offsets: expected at least 2, got ", begin.size()));
  expect(begin.front() == 0 && begin.back() == tokens,
         concat("document offsets: expected 0 to ", tokens, ", got ", begin.front(), " to ", begin.back()));
  for (size_t d = 0; d + 1 < begin.size(); ++d) {
    expect(begin[d] <= begin[d + 1], concat("document offsets: entry ", d + 1, " (", begin[d + 1],
                                            ") lies before entry ", d, " (", begin[d], ")"));
    expect(begin[d] == begin[d + 1] || begin[d] / seq_len == (begin[d + 1] - 1) / seq_len,
           concat("document offsets: expected documents within rows of ", seq_len, " tokens, got one from ",
                  begin[d], " to ", begin[d + 1]));
  }
}

Documents make_documents(const at::Tensor& offsets, int64_t batch, int64_t seq_len) {
  expect(offsets.dim() == 1 && offsets.numel() >= 2 && offsets.scalar_type() == at::kInt &&
             offsets.is_contiguous(),
         concat("document offsets: expected contiguous i32 [capacity + 1], got ", offsets.toString(), " ",
                offsets.sizes()));
  if (offsets.is_cpu())  // reading them from a GPU would stall it
    check_document_offsets({offsets.const_data_ptr<int32_t>(), static_cast<size_t>(offsets.numel())}, batch,
                           seq_len);

  const at::Tensor tokens = at::arange(batch * seq_len, offsets.options());
  const at::Tensor ends = offsets.narrow(0, 1, offsets.numel() - 1);
  // A token's document is the number of documents that end at or before it; empty ones are counted past.
  const at::Tensor ids = at::searchsorted(ends, tokens, /*out_int32=*/true, /*right=*/true);
  const at::Tensor positions = (tokens - offsets.index_select(0, ids)).to(at::kLong);
  return {offsets, ids.view({batch, seq_len}), positions.view({batch, seq_len}), batch, seq_len, seq_len};
}

Documents one_document_per_row(int64_t batch, int64_t seq_len, at::Device device, int64_t first_position) {
  const auto i32 = at::TensorOptions(device).dtype(at::kInt);
  const auto i64 = at::TensorOptions(device).dtype(at::kLong);
  const at::Tensor rows = at::arange(batch + 1, i32);
  const at::Tensor positions = at::arange(first_position, first_position + seq_len, i64);
  return {rows * seq_len,
          rows.narrow(0, 0, batch).unsqueeze(1).repeat({1, seq_len}),
          positions.unsqueeze(0).repeat({batch, 1}),
          batch,
          seq_len,
          first_position + seq_len};
}

}  // namespace transxssm::ops
