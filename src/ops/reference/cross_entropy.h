// Cross-entropy of rows of logits and its gradient in ATen, for any dtype and device.
#pragma once

#include <ATen/core/Tensor.h>

namespace transxssm::ops::reference {

struct RowLosses {
  at::Tensor losses;      // [rows] accumulation type: −log p[label], 0 where not counted
  at::Tensor objectives;  // likewise, with z_loss · log²Z
  at::Tensor dlogits;     // [rows, V] dtype of logits: scale · gradient of Σ objectives, or undefined
};

// logits [rows, V], labels i64 [rows], scale: a scalar of the accumulation type, or undefined for 1.
RowLosses cross_entropy(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& scale,
                        double z_loss, bool with_gradient);

}  // namespace transxssm::ops::reference
