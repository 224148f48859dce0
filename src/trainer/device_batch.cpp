#include "trainer/device_batch.h"

#include <cstring>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "core/check.h"

namespace transxssm {
namespace {

template <class T>
void copy_into(const at::Tensor& to, const std::vector<T>& values) {
  expect(to.numel() == static_cast<int64_t>(values.size()),
         concat("a batch of ", values.size(), " values for buffers of ", to.sizes()));
  if (to.is_cpu()) {
    std::memcpy(to.mutable_data_ptr(), values.data(), values.size() * sizeof(T));
    return;
  }
  const auto host = at::empty(to.sizes(), to.options().device(at::kCPU).pinned_memory(true));
  std::memcpy(host.mutable_data_ptr(), values.data(), values.size() * sizeof(T));
  to.copy_(
      host,
      /*non_blocking=*/true);  // the caching host allocator keeps the pinned block until the copy is done
}

}  // namespace

BatchBuffers::BatchBuffers(const Batch& batch, at::Device device) {
  const at::TensorOptions on_device(device);
  tokens_bt_ = at::empty({batch.batch, batch.seq_len}, on_device.dtype(at::kLong));
  labels_bt_ = at::empty_like(tokens_bt_);
  offsets_ = at::empty({static_cast<int64_t>(batch.document_offsets.size())}, on_device.dtype(at::kInt));
}

void BatchBuffers::fill(const Batch& batch) {
  ops::check_document_offsets(batch.document_offsets, tokens_bt_.size(0), tokens_bt_.size(1));
  copy_into(tokens_bt_, batch.tokens);
  copy_into(labels_bt_, batch.labels);
  copy_into(offsets_, batch.document_offsets);
}

DeviceBatch BatchBuffers::contents() const {
  return {tokens_bt_, labels_bt_, ops::make_documents(offsets_, tokens_bt_.size(0), tokens_bt_.size(1))};
}

DeviceBatch to_device(const Batch& batch, at::Device device) {
  BatchBuffers buffers(batch, device);
  buffers.fill(batch);
  return buffers.contents();
}

double mean_keys(const Batch& batch) {
  double pairs = 0;
  for (size_t d = 0; d + 1 < batch.document_offsets.size(); ++d) {
    const double n = batch.document_offsets[d + 1] - batch.document_offsets[d];
    pairs += n * (n + 1) / 2;
  }
  return pairs / static_cast<double>(batch.batch * batch.seq_len);
}

}  // namespace transxssm
