// One query a row against cached keys and values, by masked products, for any dtype and device.
#pragma once

#include <ATen/core/Tensor.h>

namespace transxssm::ops::reference {

// q_bhp [B, H, P], rotated; k_bgsp, v_bgsp [B, G, capacity, P]. Row b sees the places up to positions_b[b],
// i64 [B]. Softmax in f32 (f64 for f64). On a GPU without a host sync: there all of the cache is read.
// Returns [B, H, P] like q.
at::Tensor attention_step(const at::Tensor& q_bhp, const at::Tensor& k_bgsp, const at::Tensor& v_bgsp,
                          const at::Tensor& positions_b);

}  // namespace transxssm::ops::reference
