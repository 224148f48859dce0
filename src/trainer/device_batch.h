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

// Copies to `device`, through pinned memory and without waiting for it where that is a GPU.
DeviceBatch to_device(const Batch& batch, at::Device device);

// Mean number of keys an attention query of this batch sees: Σ n(n + 1)/2 over documents, per token.
double mean_keys(const Batch& batch);

}  // namespace transxssm
