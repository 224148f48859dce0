#include "ops/reference/attention_step.h"

#include <cmath>
#include <limits>

#include <ATen/TensorOperators.h>
#include <ATen/ops/_softmax.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>

#include "ops/accumulate_type.h"

namespace transxssm::ops::reference {
namespace {

// Places that some row sees: known on a CPU, all on a GPU.
int64_t visible_places(const at::Tensor& k_bgsp, const at::Tensor& positions_b) {
  return positions_b.is_cpu() ? positions_b.max().item<int64_t>() + 1 : k_bgsp.size(2);
}

// a b in the accumulation type, the operands not copied where the device can do that.
at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  if (a.is_cuda() && a.scalar_type() == at::kBFloat16) return at::bmm(a, b, at::kFloat);
  return at::bmm(to_accumulate_type(a), to_accumulate_type(b));
}

}  // namespace

at::Tensor attention_step(const at::Tensor& q_bhp, const at::Tensor& k_bgsp, const at::Tensor& v_bgsp,
                          const at::Tensor& positions_b) {
  const int64_t batch = q_bhp.size(0), groups = k_bgsp.size(1), visible = visible_places(k_bgsp, positions_b);
  const at::Tensor q = q_bhp.unflatten(1, {groups, -1}).flatten(0, 1);  // [B·G, R, P], R = H/G
  const at::Tensor k = k_bgsp.flatten(0, 1).narrow(1, 0, visible),
                   v = v_bgsp.flatten(0, 1).narrow(1, 0, visible);
  const at::Tensor scores =
      product(q, k.transpose(1, 2)).mul_(1 / std::sqrt(static_cast<double>(q.size(2))));  // [B·G, R, S]
  const at::Tensor hidden =
      at::arange(visible, positions_b.options()).unsqueeze(0) > positions_b.unsqueeze(1);
  scores.view({batch, -1, visible})
      .masked_fill_(hidden.unsqueeze(1), -std::numeric_limits<double>::infinity());
  const at::Tensor p = at::_softmax(scores, -1, /*half_to_float=*/false).to(v.scalar_type());
  return at::bmm(p, v).view(q_bhp.sizes());
}

}  // namespace transxssm::ops::reference
