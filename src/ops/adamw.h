// AdamW over a flat buffer (Loshchilov and Hutter, arXiv 1711.05101), in one pass.
#pragma once

#include <ATen/core/Tensor.h>

namespace transxssm::ops {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.0;
};

// What changes from step to step; scalars on the buffers' device, so that a captured graph reads the current
// values.
struct AdamWControl {
  at::Tensor lr;          // f32: learning rate of this step
  at::Tensor step;        // i64: number of updates applied so far, this one included (from 1)
  at::Tensor grad_scale;  // f32: the clip factor
  at::Tensor apply;       // bool: false leaves master, m, v and compute untouched (non-finite step)
};

// With g = grad_scale · grad:
//   m = β₁ m + (1−β₁) g     v = β₂ v + (1−β₂) g²
//   w = w − lr (m / (1−β₁ᵗ) / (√(v / (1−β₂ᵗ)) + eps) + weight_decay w)
// master, m, v, grad: f32 [n]; compute: bf16 [n] copy of the new master, or undefined where compute is the
// master itself. In place, but for `grad`. CUDA: one kernel; CPU: one loop.
void adamw(const AdamWOptions& options, const AdamWControl& control, const at::Tensor& master,
           const at::Tensor& m, const at::Tensor& v, const at::Tensor& grad, const at::Tensor& compute);

}  // namespace transxssm::ops
