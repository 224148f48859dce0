// What the device has to say about a step, read without making it wait.
#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/pending_copy.h"

namespace transxssm {

struct StepReport {
  double loss = 0;
  double grad_norm = 0;
  int64_t skipped_steps = 0;  // total so far, steps whose loss or norm was not finite
  int64_t skipped_in_row = 0;
  int64_t votes = 0;  // of ranks that want to stop
  // So far: collectives ran, and other work waited for them. 0 for a rank alone.
  double communication_seconds = 0, exposed_seconds = 0;
};

// Scalars on their way to the host. Made right after a step was queued, read when the next one has been.
// `collective_times`: Mesh::collective_times().
class PendingReport {
 public:
  PendingReport(const at::Tensor& loss, const at::Tensor& grad_norm, const at::Tensor& skipped_steps,
                const at::Tensor& skipped_in_row, const at::Tensor& votes,
                const at::Tensor& collective_times);
  StepReport wait();

 private:
  PendingCopy values_;  // f64 [7]
};

}  // namespace transxssm
