// How long this rank's collectives take, and how long its other work waits for them. Only for files of this
// folder.
#pragma once

#include <chrono>
#include <cstdint>

#include <ATen/core/Tensor.h>

namespace transxssm {

// Measured by the host, or, connected to a GPU, by the GPU in stream order, where a replayed CUDA graph is
// measured as well.
class CollectiveTimes {
 public:
  CollectiveTimes();

  void connect(at::Device device);

  // Around a collective: on a GPU on the stream of collectives.
  void begin_run() { begin(kRunning); }
  void end_run() { end(kRunning); }
  // Around a wait for one: on a GPU on the stream that waits.
  void begin_wait() { begin(kWaiting); }
  void end_wait() { end(kWaiting); }

  // i64 [2], nanoseconds so far: collectives were running, and work was waiting for them. Overwritten: copy
  // it in stream order.
  const at::Tensor& totals() const { return totals_; }

 private:
  enum What { kRunning, kWaiting };
  void begin(What what);
  void end(What what);

  at::Tensor totals_;
  at::Tensor since_;           // i64 [2]: when the present one began
  int under_way_[2] = {0, 0};  // on the host, where several can be at once
};

}  // namespace transxssm
