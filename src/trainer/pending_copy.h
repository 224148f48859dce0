// Values on their way from the device to the host, which reads them later: the device goes on meanwhile.
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

namespace transxssm {

class PendingCopy {
 public:
  // Queues the copy. What is queued after it may overwrite `values`.
  explicit PendingCopy(const at::Tensor& values);

  // The values on the host. Waits for what was queued before the copy, and for nothing after it.
  const at::Tensor& wait() const;

 private:
  at::Tensor host_;                   // pinned for a GPU
  std::optional<c10::Event> copied_;  // on a GPU
};

}  // namespace transxssm
