#include "trainer/step_report.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace transxssm {

PendingReport::PendingReport(const at::Tensor& loss, const at::Tensor& grad_norm,
                             const at::Tensor& skipped_steps, const at::Tensor& skipped_in_row) {
  const auto values = at::stack({loss.to(at::kDouble), grad_norm.to(at::kDouble),
                                 skipped_steps.to(at::kDouble), skipped_in_row.to(at::kDouble)});
  if (!values.is_cuda()) {
    host_ = values;
    return;
  }
  host_ = at::empty({4}, at::TensorOptions().dtype(at::kDouble).pinned_memory(true));
  host_.copy_(values, /*non_blocking=*/true);
  const c10::impl::VirtualGuardImpl guard(values.device().type());
  copied_.emplace(values.device().type());
  copied_->record(guard.getStream(values.device()));
}

StepReport PendingReport::wait() {
  if (copied_) copied_->synchronize();
  const double* value = host_.const_data_ptr<double>();
  return {value[0], value[1], static_cast<int64_t>(value[2]), static_cast<int64_t>(value[3])};
}

}  // namespace transxssm
