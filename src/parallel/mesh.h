// Ranks that train together. The rest of the code sees communication only through this class.
//
// The mesh has one axis, `data`: every rank holds the whole model and works on sequences of its own.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "parallel/rank_environment.h"

namespace transxssm {

// A collective that was started and runs beside what the caller does. Its tensors may be neither read nor
// written before wait().
class PendingCollective {
 public:
  struct Impl;
  PendingCollective();  // nothing to wait for
  explicit PendingCollective(std::unique_ptr<Impl> impl);
  PendingCollective(PendingCollective&&) noexcept;
  PendingCollective& operator=(PendingCollective&&) noexcept;
  ~PendingCollective();

  // GPU: what is queued on the current stream from here on comes after the collective; the host goes on.
  // CPU: returns when it is finished.
  void wait();

 private:
  std::unique_ptr<Impl> impl_;
};

class Communicator;

class Mesh {
 public:
  // One rank that talks to nobody.
  static Mesh single();
  // Meets the other ranks: from here on exchange() and barrier() work. Throws InputError where the store
  // can't be reached, or ranks are missing after `timeout`.
  //
  // From then on a thread watches that all ranks get on. One that is dead, or that the others have waited for
  // longer than `timeout`, ends the run: on every rank the process ends with exit code 1, if need be from
  // that thread, and rank 0 says which rank, on which host, and in which collective the others waited. That
  // holds for collectives replayed from a CUDA graph as well.
  static Mesh join(const RankEnvironment& environment, std::chrono::milliseconds timeout);
  // Readies the collectives for tensors on `device`: NCCL on a GPU, Gloo on a CPU. All ranks call it.
  void connect(at::Device device);

  Mesh(Mesh&&) noexcept;
  Mesh& operator=(Mesh&&) noexcept;
  ~Mesh();

  int rank() const;
  int size() const;
  bool is_first() const { return rank() == 0; }

  // Collectives: every rank calls the same ones in the same order, with tensors of one type, flat,
  // contiguous and of the same sizes on every rank. On a GPU they run in the order of the current stream and
  // can be recorded into a CUDA graph; on a CPU they are finished on return.
  //
  // The sum over the ranks, in place. Equal bits on every rank, and in every run of the same layout.
  void all_reduce(const at::Tensor& sum) const;
  // `whole` holds one shard per rank; `shard` becomes the sum of the ranks' parts for this rank. It may be
  // this rank's part of `whole`, the rest of which is then undefined.
  void reduce_scatter(const at::Tensor& shard, const at::Tensor& whole) const;
  // The opposite: `whole` becomes the ranks' shards, by rank. `shard` may be this rank's part of it.
  void all_gather(const at::Tensor& whole, const at::Tensor& shard) const;
  // `tensor` becomes what it is on rank `root`.
  void broadcast(const at::Tensor& tensor, int root) const;

  // The same, running beside what the caller does: on a GPU on the communicator's own stream, behind what is
  // queued on the current stream so far.
  PendingCollective start_all_reduce(const at::Tensor& sum) const;
  PendingCollective start_reduce_scatter(const at::Tensor& shard, const at::Tensor& whole) const;
  PendingCollective start_all_gather(const at::Tensor& whole, const at::Tensor& shard) const;

  // Of the host, for starting up and decisions; all ranks call them in the same order. Milliseconds.
  //
  // Every rank's text, by rank.
  std::vector<std::string> exchange(const std::string& mine) const;
  void barrier() const;
  // The first rank gets every rank's text, by rank; others get nothing and go on at once. They may be ahead
  // of the first one by one call.
  std::vector<std::string> gather(const std::string& mine) const;
  // Every rank says what is wrong with its input, or nothing. Throws InputError on all of them, with the
  // first complaint and whose it is, if there is any.
  void agree(const std::string& complaint) const;
  // Throws InputError on all ranks unless `mine` is the same on all; `what` names it.
  void expect_same(const std::string& what, const std::string& mine) const;

  // i64 [2] on the device, nanoseconds since connect(): collectives were running here, and other work was
  // waiting for them, so that it could not hide them. Overwritten: copy it in stream order. Undefined for a
  // rank that talks to nobody.
  at::Tensor collective_times() const;

  // For phases that may take longer (or shorter) than others, on all ranks alike.
  void set_timeout(std::chrono::milliseconds timeout) const;
  // What this rank does before its process is ended because another rank is dead or hangs; gets the reason,
  // and runs in the thread that watches.
  void on_failure(std::function<void(const std::string& reason, int exit_code)> action) const;
  // Tells the other ranks why this one is about to end; they end with that exit code.
  void announce_failure(const std::string& reason, int exit_code = 1) const;

 private:
  struct Impl;
  explicit Mesh(std::unique_ptr<Impl> impl);
  Communicator& connected() const;
  std::unique_ptr<Impl> impl_;
};

}  // namespace transxssm
