#include "trainer/device_batch.h"

#include <cstring>

#include <ATen/ops/empty.h>

namespace transxssm {
namespace {

template <class T>
at::Tensor copy_to(const std::vector<T>& values, at::IntArrayRef shape, at::ScalarType dtype,
                   at::Device device) {
  auto host = at::empty(shape, at::TensorOptions().dtype(dtype).pinned_memory(device.is_cuda()));
  std::memcpy(host.data_ptr(), values.data(), values.size() * sizeof(T));
  // The caching host allocator keeps the pinned block until the copy is done.
  return device.is_cuda() ? host.to(device, dtype, /*non_blocking=*/true) : host;
}

}  // namespace

DeviceBatch to_device(const Batch& batch, at::Device device) {
  const std::vector<int64_t> shape{batch.batch, batch.seq_len};
  const auto offsets = copy_to(batch.document_offsets, {static_cast<int64_t>(batch.document_offsets.size())},
                               at::kInt, device);
  return {copy_to(batch.tokens, shape, at::kLong, device), copy_to(batch.labels, shape, at::kLong, device),
          ops::make_documents(offsets, batch.batch, batch.seq_len)};
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
