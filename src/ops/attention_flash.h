// LibTorch's flash attention on packed documents: no score matrix, cost only inside documents.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "ops/documents.h"
#include "ops/reference/attention.h"

namespace transxssm::ops {

struct FlashResult {
  at::Tensor out_bthp;            // contiguous
  std::vector<at::Tensor> saved;  // what backward needs beside the inputs and the output
};

// CPU: one call per document, consecutive rows that are one document each in one call. f32, bf16 or f64.
// CUDA: one varlen call; bf16 and a head width that flash_attention_fits accepts. S = T.
FlashResult flash_attention_fwd(const AttentionHeads& x, const Documents& documents);

// Writes all of `grads`, tensors shaped like those of `x`. On CUDA dQ is summed in an order that varies.
void flash_attention_bwd(const at::Tensor& dout_bthp, const AttentionHeads& x, const FlashResult& result,
                         const Documents& documents, const AttentionHeads& grads);

// Whether the device's kernel takes such heads.
bool flash_attention_fits(at::Device device, at::ScalarType dtype, int64_t head_dim);

}  // namespace transxssm::ops
