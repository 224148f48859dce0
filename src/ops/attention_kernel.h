// Attention by cuDNN between two runs of the rotation kernel (csrc_cuda/attention, csrc_cuda/rope).
#pragma once

#include "ops/attention.h"

namespace transxssm::ops {

// Null where it takes such a call, else why it doesn't.
const char* why_no_attention_kernel(const AttentionDims& dims, at::Device device, at::ScalarType dtype);

// The same for a GPU that need not be there, of that compute capability (90 is 9.0).
const char* why_no_attention_kernel(const AttentionDims& dims, at::ScalarType dtype, int capability);

// ops/attention.h, arguments already checked. Rotates Q and K inside `packed` and keeps it for backward: the
// rotated heads take no memory of their own. A packed tensor that must not be written to (a leaf of the
// graph) or can't be read by cuDNN (gaps between rows) is copied first.
at::Tensor attention_kernel(const AttentionDims& dims, const at::Tensor& packed_btw, const RopeTable* rope,
                            const Documents& documents, bool deterministic);

// Bytes that its backward pass needs at a time beside the gradients.
int64_t attention_kernel_workspace(const AttentionDims& dims, const AttentionBatch& batch);

}  // namespace transxssm::ops
