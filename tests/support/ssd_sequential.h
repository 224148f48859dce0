// The SSD recurrence token by token, as ops/ssd.h states it: the specification that the chunked scan is
// tested with. Plain ATen, so autograd gives its gradients (weights get theirs in weight.grad(), not in
// Parameter::grad).
#pragma once

#include <set>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "ops/ssd.h"

namespace transxssm {

// Channels k and k + N/2 of v_bhn turn by the angle of (position, k).
inline at::Tensor sequential_rotation(const at::Tensor& v_bhn, const ops::RopeTable* rope,
                                      const at::Tensor& positions_b) {
  if (!rope) return v_bhn;
  const auto halves = v_bhn.chunk(2, -1);
  const at::Tensor cos = rope->cos.index_select(0, positions_b).unsqueeze(1);
  const at::Tensor sin = rope->sin.index_select(0, positions_b).unsqueeze(1);
  return at::cat({halves[0] * cos - halves[1] * sin, halves[0] * sin + halves[1] * cos}, -1);
}

inline ops::SsdResult ssd_sequential(const ops::SsdDims& d, const at::Tensor& packed_btw,
                                     const ParameterPtr& a_log_h, const ParameterPtr& dt_bias_h,
                                     const ParameterPtr& d_skip_h, const ops::RopeTable* rope,
                                     const ops::Documents& documents,
                                     const std::optional<at::Tensor>& initial_state_bhpn = std::nullopt) {
  const int64_t batch = packed_btw.size(0), seq_len = packed_btw.size(1);
  const int64_t repeat = d.num_heads / d.num_groups;
  const int32_t* offsets = documents.offsets.const_data_ptr<int32_t>();
  const std::set<int64_t> starts(offsets, offsets + documents.offsets.numel());

  at::Tensor state = initial_state_bhpn.value_or(
      at::zeros({batch, d.num_heads, d.head_dim, d.state_dim}, packed_btw.options()));
  std::vector<at::Tensor> outputs;
  for (int64_t t = 0; t < seq_len; ++t) {
    const auto columns = packed_btw.select(1, t)
                             .narrow(1, 0, ops::ssd_packed_columns(d))
                             .split_with_sizes({d.num_groups * d.state_dim, d.num_groups * d.state_dim,
                                                d.num_heads * d.head_dim, d.num_heads},
                                               1);
    const at::Tensor positions = documents.positions.select(1, t);
    const auto heads = [&](const at::Tensor& of) {
      const at::Tensor groups = of.reshape({batch, d.num_groups, d.state_dim});
      return sequential_rotation(groups, rope, positions).repeat_interleave(repeat, 1).unsqueeze(2);
    };
    const at::Tensor c = heads(columns[0]), b = heads(columns[1]);  // [B, H, 1, N]
    const at::Tensor x = columns[2].reshape({batch, d.num_heads, d.head_dim, 1});
    const at::Tensor dt =
        at::softplus(columns[3] + dt_bias_h->weight, 1, 100).view({batch, d.num_heads, 1, 1});
    const at::Tensor keep = (-dt * a_log_h->weight.exp().view({-1, 1, 1})).exp();

    std::vector<at::Tensor> carried;
    for (int64_t row = 0; row < batch; ++row) {
      const bool restarts = t > 0 && starts.count(row * seq_len + t) > 0;
      carried.push_back(restarts ? at::zeros_like(state[row]) : state[row]);
    }
    state = keep * at::stack(carried) + dt * x * b;
    at::Tensor y = (state * c).sum(-1);  // [B, H, P]
    if (d_skip_h) y = y + d_skip_h->weight.view({-1, 1}) * x.squeeze(-1);
    outputs.push_back(y.flatten(1));
  }
  return {at::stack(outputs, 1), state};
}

}  // namespace transxssm
