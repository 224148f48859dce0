// One thread counts, for the host to see.
#pragma once

#include "csrc_cuda/progress/params.h"

namespace transxssm::kernels {

__global__ void mark_progress_kernel(ProgressParams params) {
  const uint64_t count = *params.counter + 1;
  *params.counter = count;
  if (params.seen_site != nullptr) *static_cast<volatile uint64_t*>(params.seen_site) = params.site;
  __threadfence_system();  // whoever sees the count sees its site
  *static_cast<volatile uint64_t*>(params.seen) = count;
}

__global__ void mark_time_kernel(TimeParams params) {
  int64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  if (params.total == nullptr)
    *params.since = now;
  else
    *params.total += now - *params.since;
}

}  // namespace transxssm::kernels
