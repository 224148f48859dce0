#include "trainer/pending_copy.h"

#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace transxssm {

PendingCopy::PendingCopy(const at::Tensor& values) {
  if (values.is_cpu()) {
    host_ = values.clone();
    return;
  }
  host_ = at::empty(values.sizes(), values.options().device(at::kCPU).pinned_memory(true));
  host_.copy_(values, /*non_blocking=*/true);
  const c10::impl::VirtualGuardImpl guard(values.device().type());
  copied_.emplace(values.device().type());
  copied_->record(guard.getStream(values.device()));
}

const at::Tensor& PendingCopy::wait() const {
  if (copied_) copied_->synchronize();
  return host_;
}

}  // namespace transxssm
