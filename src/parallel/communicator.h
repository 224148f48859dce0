// The collectives of connected ranks: watched, and on a GPU on a stream of their own. Only for files of this
// folder.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <c10/core/Event.h>
#include <c10/core/Stream.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "parallel/collective_times.h"
#include "parallel/mesh.h"
#include "parallel/monitor.h"
#include "parallel/progress.h"

namespace transxssm {

class Communicator {
 public:
  Communicator(c10::intrusive_ptr<c10d::Backend> group, at::Device device, CollectiveProgress& progress,
               CollectiveTimes& times, Monitor& monitor);
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  PendingCollective all_reduce(const at::Tensor& sum);
  PendingCollective reduce_scatter(const at::Tensor& shard, const at::Tensor& whole);
  PendingCollective all_gather(const at::Tensor& whole, const at::Tensor& shard);
  PendingCollective broadcast(const at::Tensor& tensor, int root);

 private:
  friend struct PendingCollective::Impl;
  // `begin` gets the process group and starts the collective, on the current stream where there is one.
  template <class Begin>
  PendingCollective start(const char* name, const std::vector<at::Tensor>& tensors, Begin&& begin);
  [[noreturn]] void fail(const std::string& what, const std::string& why);

  c10::intrusive_ptr<c10d::Backend> group_;
  at::Device device_;
  std::optional<c10::Stream> stream_;  // of a GPU
  CollectiveProgress& progress_;
  CollectiveTimes& times_;
  Monitor& monitor_;
};

}  // namespace transxssm
