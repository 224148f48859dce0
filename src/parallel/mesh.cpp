#include "parallel/mesh.h"

#include <algorithm>
#include <exception>
#include <utility>

#include <c10/util/Exception.h>

#include "core/check.h"
#include "parallel/process_group.h"
#include "parallel/rendezvous.h"

namespace transxssm {
namespace {

using Work = c10::intrusive_ptr<c10d::Work>;

std::string describe(const at::Tensor& tensor) {
  return concat("[", tensor.numel(), "] ", tensor.scalar_type(), " on ", tensor.device());
}

void expect_flat(const char* collective, const char* name, const at::Tensor& tensor) {
  expect(tensor.defined(), concat(collective, ": ", name, " is undefined"));
  expect(tensor.dim() == 1 && tensor.is_contiguous(),
         concat(collective, ": ", name, " must be flat and contiguous, it is ", tensor.sizes()));
}

void expect_shards(const char* collective, const at::Tensor& whole, const at::Tensor& shard, int size) {
  expect_flat(collective, "whole", whole);
  expect_flat(collective, "shard", shard);
  expect(whole.scalar_type() == shard.scalar_type() && whole.device() == shard.device() &&
             whole.numel() == shard.numel() * size,
         concat(collective, ": whole must hold ", size, " shards of ", describe(shard), ", it is ",
                describe(whole)));
}

}  // namespace

struct PendingCollective::Impl {
  Work work;
  std::string what;
};

PendingCollective::PendingCollective() = default;
PendingCollective::PendingCollective(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PendingCollective::PendingCollective(PendingCollective&&) noexcept = default;
PendingCollective& PendingCollective::operator=(PendingCollective&&) noexcept = default;
PendingCollective::~PendingCollective() = default;

void PendingCollective::wait() {
  if (!impl_) return;
  const auto impl = std::move(impl_);
  try {
    impl->work->wait();
  } catch (const c10::Error& error) {
    throw std::runtime_error(concat(impl->what, ": ", error.what_without_backtrace()));
  } catch (const std::exception& error) {
    throw std::runtime_error(concat(impl->what, ": ", error.what()));
  }
}

struct Mesh::Impl {
  std::unique_ptr<Rendezvous> rendezvous;  // none: one rank that talks to nobody
  c10::intrusive_ptr<c10d::Backend> group;

  ~Impl() {
    if (!group) return;
    // After a failure the others may never take part in an orderly end.
    std::uncaught_exceptions() > 0 ? group->abort() : group->shutdown();
    group.reset();  // before the store that it uses
  }

  // Starts a collective. `begin` gets the process group and whether to run beside the current stream.
  template <class Begin>
  PendingCollective start(const char* name, const at::Tensor& tensor, bool beside, Begin&& begin) {
    expect(group.defined(), concat(name, " before Mesh::connect"));
    auto pending = std::make_unique<PendingCollective::Impl>();
    pending->what = concat(name, " of ", describe(tensor), " failed on rank ", rendezvous->rank());
    // On a CPU only the asynchronous form says why it failed.
    pending->work = begin(*group, beside || tensor.is_cpu());
    if (!pending->work) return {};  // queued on the current stream
    return PendingCollective(std::move(pending));
  }

  PendingCollective all_reduce(at::Tensor sum, bool beside) {
    expect_flat("all_reduce", "sum", sum);
    if (!rendezvous) return {};
    return start("all_reduce", sum, beside, [&](c10d::Backend& backend, bool async) {
      std::vector<at::Tensor> tensors{sum};
      c10d::AllreduceOptions options;
      options.asyncOp = async;
      return backend.allreduce(tensors, options);
    });
  }

  PendingCollective reduce_scatter(at::Tensor shard, at::Tensor whole, bool beside) {
    expect_shards("reduce_scatter", whole, shard, rendezvous ? rendezvous->size() : 1);
    if (!rendezvous) {
      shard.copy_(whole);
      return {};
    }
    return start("reduce_scatter", whole, beside, [&](c10d::Backend& backend, bool async) {
      c10d::ReduceScatterOptions options;
      options.asyncOp = async;
      return backend._reduce_scatter_base(shard, whole, options);
    });
  }

  PendingCollective all_gather(at::Tensor whole, at::Tensor shard, bool beside) {
    expect_shards("all_gather", whole, shard, rendezvous ? rendezvous->size() : 1);
    if (!rendezvous) {
      whole.copy_(shard);
      return {};
    }
    return start("all_gather", whole, beside, [&](c10d::Backend& backend, bool async) {
      c10d::AllgatherOptions options;
      options.asyncOp = async;
      return backend._allgather_base(whole, shard, options);
    });
  }
};

Mesh::Mesh(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Mesh::Mesh(Mesh&&) noexcept = default;
Mesh& Mesh::operator=(Mesh&&) noexcept = default;
Mesh::~Mesh() = default;

Mesh Mesh::single() { return Mesh(std::make_unique<Impl>()); }

Mesh Mesh::join(const RankEnvironment& environment, std::chrono::seconds timeout) {
  auto impl = std::make_unique<Impl>();
  impl->rendezvous = std::make_unique<Rendezvous>(environment, timeout);
  return Mesh(std::move(impl));
}

void Mesh::connect(at::Device device) {
  if (!impl_->rendezvous) return;
  const Rendezvous& ranks = *impl_->rendezvous;
  const std::vector<std::string>& hosts = ranks.hosts();
  const bool on_one_host =
      std::all_of(hosts.begin(), hosts.end(), [&](auto& host) { return host == hosts[0]; });
  const GroupPlace place{ranks.store(), ranks.rank(), ranks.size(), on_one_host, ranks.timeout()};
  impl_->group = device.is_cuda() ? make_nccl_group(place, device) : make_gloo_group(place);
}

int Mesh::rank() const { return impl_->rendezvous ? impl_->rendezvous->rank() : 0; }
int Mesh::size() const { return impl_->rendezvous ? impl_->rendezvous->size() : 1; }

void Mesh::all_reduce(const at::Tensor& sum) const { impl_->all_reduce(sum, /*beside=*/false).wait(); }

void Mesh::reduce_scatter(const at::Tensor& shard, const at::Tensor& whole) const {
  impl_->reduce_scatter(shard, whole, /*beside=*/false).wait();
}

void Mesh::all_gather(const at::Tensor& whole, const at::Tensor& shard) const {
  impl_->all_gather(whole, shard, /*beside=*/false).wait();
}

void Mesh::broadcast(const at::Tensor& tensor, int root) const {
  expect_flat("broadcast", "tensor", tensor);
  expect(root >= 0 && root < size(), concat("broadcast from rank ", root, " of ", size()));
  if (!impl_->rendezvous) return;
  auto pending = impl_->start("broadcast", tensor, /*beside=*/false, [&](c10d::Backend& backend, bool async) {
    std::vector<at::Tensor> tensors{tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    options.asyncOp = async;
    return backend.broadcast(tensors, options);
  });
  pending.wait();
}

PendingCollective Mesh::start_all_reduce(const at::Tensor& sum) const {
  return impl_->all_reduce(sum, /*beside=*/true);
}

PendingCollective Mesh::start_reduce_scatter(const at::Tensor& shard, const at::Tensor& whole) const {
  return impl_->reduce_scatter(shard, whole, /*beside=*/true);
}

PendingCollective Mesh::start_all_gather(const at::Tensor& whole, const at::Tensor& shard) const {
  return impl_->all_gather(whole, shard, /*beside=*/true);
}

std::vector<std::string> Mesh::exchange(const std::string& mine) const {
  return impl_->rendezvous ? impl_->rendezvous->exchange(mine) : std::vector<std::string>{mine};
}

void Mesh::barrier() const { exchange(""); }

}  // namespace transxssm
