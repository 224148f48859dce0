// Gradient norm over flat buffers.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

namespace transxssm::ops {

// √Σ g² over all elements of all buffers: f32 scalar on their device, summed in f32 in a fixed order (f64
// across partial sums), no host sync. grads: f32, one-dimensional, contiguous.
at::Tensor grad_norm(const std::vector<at::Tensor>& grads);

}  // namespace transxssm::ops
