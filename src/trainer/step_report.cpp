#include "trainer/step_report.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

namespace transxssm {

PendingReport::PendingReport(const at::Tensor& loss, const at::Tensor& grad_norm,
                             const at::Tensor& skipped_steps, const at::Tensor& skipped_in_row,
                             const at::Tensor& votes, const at::Tensor& collective_times)
    : values_(
          at::cat({at::stack({loss.to(at::kDouble), grad_norm.to(at::kDouble), skipped_steps.to(at::kDouble),
                              skipped_in_row.to(at::kDouble), votes.to(at::kDouble)}),
                   collective_times.defined() ? collective_times.to(at::kDouble)
                                              : at::zeros({2}, loss.options().dtype(at::kDouble))})) {}

StepReport PendingReport::wait() {
  const double* value = values_.wait().const_data_ptr<double>();
  const auto count = [&](int i) { return static_cast<int64_t>(value[i]); };
  return {value[0], value[1], count(2), count(3), count(4), value[5] * 1e-9, value[6] * 1e-9};
}

}  // namespace transxssm
