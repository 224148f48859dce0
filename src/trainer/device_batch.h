// A micro-batch where the model runs.
#pragma once

#include <ATen/core/Tensor.h>

#include "data/batch.h"
#include "ops/documents.h"

namespace transxssm {

struct DeviceBatch {
  at::Tensor tokens_bt;  // i64
  at::Tensor labels_bt;  // i64, −1 not counted
  ops::Documents documents;
};

// Memory on the device for one micro-batch after another, all of one shape: captured graphs read from fixed
// addresses.
class BatchBuffers {
 public:
  // For batches that are shaped like `batch`, document capacity included.
  BatchBuffers(const Batch& batch, at::Device device);

  // Queues the copies, through pinned memory and without waiting where the device is a GPU. Throws where the
  // documents do not tile the rows: on the GPU nobody looks at them any more.
  void fill(const Batch& batch);

  // What was filled in. Queues the work that derives ids and positions from the documents' offsets.
  DeviceBatch contents() const;

 private:
  at::Tensor tokens_bt_, labels_bt_, offsets_;
};

// A batch that is used once.
DeviceBatch to_device(const Batch& batch, at::Device device);

// Mean number of keys an attention query of this batch sees: Σ n(n + 1)/2 over documents, per token.
double mean_keys(const Batch& batch);

}  // namespace transxssm
