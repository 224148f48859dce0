#include "ops/reference/cross_entropy.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_softmax.h>

#include "ops/accumulate_type.h"

namespace transxssm::ops::reference {

RowLosses cross_entropy(const at::Tensor& rounded_logits, const at::Tensor& labels, const at::Tensor& scale,
                        double z_loss, bool with_gradient) {
  const at::Tensor counted = labels.ge(0);
  const at::Tensor targets = labels.clamp_min(0).unsqueeze(1);
  at::Tensor logits = to_accumulate_type(rounded_logits);
  const at::Tensor target_logits = logits.gather(1, targets).squeeze(1);
  const at::Tensor largest = logits.amax(1);
  at::Tensor p = logits;
  at::_softmax_out(p, logits, 1, /*half_to_float=*/false);  // in place
  // The largest probability is at least 1/V, so its logarithm is as good as a log-sum-exp of the logits.
  const at::Tensor log_z = largest - p.amax(1).log();

  RowLosses out;
  out.losses = (log_z - target_logits).mul_(counted);
  out.objectives = out.losses + (log_z.square() * z_loss).mul_(counted);
  if (!with_gradient) return out;
  // d/dlogits = p (1 + 2 z_loss log Z) − onehot(label), rows that are not counted 0
  p.mul_(((1 + 2 * z_loss * log_z) * counted).unsqueeze(1));
  p.scatter_(1, targets, p.gather(1, targets) - counted.unsqueeze(1).to(p.scalar_type()));
  if (scale.defined()) p.mul_(scale);
  out.dlogits = p.to(rounded_logits.scalar_type());
  return out;
}

}  // namespace transxssm::ops::reference
