// The recurrence as it is written: decay, add, read.
#include "ops/reference/ssd_step.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softplus.h>

#include "ops/accumulate_type.h"

namespace transxssm::ops::reference {
namespace {

// [B, G·N] at the token's position, one copy per head: [B, H, N].
at::Tensor rotated_per_head(const SsdDims& d, const at::Tensor& columns, const RopeTable* rope,
                            const at::Tensor& positions_b) {
  at::Tensor by_group = columns.unflatten(1, {d.num_groups, d.state_dim});
  if (rope) by_group = rotate_half(by_group.unsqueeze(1), *rope, positions_b.unsqueeze(1)).squeeze(1);
  return by_group.repeat_interleave(d.num_heads / d.num_groups, 1);
}

}  // namespace

at::Tensor ssd_step(const SsdDims& d, const at::Tensor& packed_bw, const ParameterPtr& a_log_h,
                    const ParameterPtr& dt_bias_h, const ParameterPtr& d_skip_h, const RopeTable* rope,
                    const at::Tensor& positions_b, at::Tensor& state_bhpn) {
  const at::NoGradGuard no_grad;
  const int64_t group_columns = d.num_groups * d.state_dim, x_columns = d.num_heads * d.head_dim;
  const at::Tensor packed = to_accumulate_type(packed_bw);
  const at::Tensor c = rotated_per_head(d, packed.narrow(1, 0, group_columns), rope, positions_b);
  const at::Tensor b = rotated_per_head(d, packed.narrow(1, group_columns, group_columns), rope, positions_b);
  const at::Tensor x = packed.narrow(1, 2 * group_columns, x_columns).unflatten(1, {d.num_heads, d.head_dim});
  const at::Tensor tau = packed.narrow(1, 2 * group_columns + x_columns, d.num_heads);

  const at::Tensor dt = at::softplus(tau + dt_bias_h->weight, 1, 40);
  const at::Tensor keep = (dt * a_log_h->weight.exp()).neg_().exp_();
  state_bhpn.mul_(keep.unsqueeze(-1).unsqueeze(-1))
      .addcmul_((x * dt.unsqueeze(-1)).unsqueeze(-1), b.unsqueeze(-2));  // [B, H, P, 1] · [B, H, 1, N]
  at::Tensor y = at::matmul(state_bhpn, c.unsqueeze(-1)).squeeze(-1);
  if (d_skip_h) y.addcmul_(x, d_skip_h->weight.unsqueeze(-1));
  return y.flatten(1).to(packed_bw.scalar_type());
}

}  // namespace transxssm::ops::reference
