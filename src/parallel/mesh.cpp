#include "parallel/mesh.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "csrc_cuda/common/device_info.h"
#include "parallel/collective_times.h"
#include "parallel/communicator.h"
#include "parallel/monitor.h"
#include "parallel/process_group.h"
#include "parallel/rendezvous.h"

namespace transxssm {
namespace {

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

// Ranks that talk; a mesh of one rank that talks to nobody has none.
struct Mesh::Impl {
  Impl(const RankEnvironment& environment, std::chrono::milliseconds timeout)
      : rendezvous(environment, timeout),
        monitor(rendezvous.store()->clone(), environment.rank, rendezvous.hosts(), timeout, progress) {}
  ~Impl() {
    // A rank that leaves in order can't be missed; one that fails without a word of its own will be.
    std::uncaught_exceptions() > 0 ? monitor.announce("it ended in an error of its own") : monitor.rest();
  }

  std::string name_of(size_t rank) const { return concat("rank ", rank, " on ", rendezvous.hosts()[rank]); }
  // NCCL hangs or fails obscurely where two ranks use one GPU.
  void expect_own_gpu(at::Device device);

  Rendezvous rendezvous;
  CollectiveProgress progress;
  CollectiveTimes times;
  Monitor monitor;
  std::unique_ptr<Communicator> communicator;
};

void Mesh::Impl::expect_own_gpu(at::Device device) {
  const auto gpus = rendezvous.exchange(kernels::device_uuid(device.index()));
  for (size_t rank = 0; rank < gpus.size(); ++rank) {
    const auto first = static_cast<size_t>(std::find(gpus.begin(), gpus.end(), gpus[rank]) - gpus.begin());
    if (first == rank) continue;
    monitor.rest();
    throw InputError(
        concat(name_of(first), " and ", name_of(rank), " use the same GPU: start one rank per GPU"));
  }
}

Mesh::Mesh(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Mesh::Mesh(Mesh&&) noexcept = default;
Mesh& Mesh::operator=(Mesh&&) noexcept = default;
Mesh::~Mesh() = default;

Mesh Mesh::single() { return Mesh(nullptr); }

Mesh Mesh::join(const RankEnvironment& environment, std::chrono::milliseconds timeout) {
  return Mesh(std::make_unique<Impl>(environment, timeout));
}

void Mesh::connect(at::Device device) {
  if (!impl_) return;
  const std::vector<std::string>& hosts = impl_->rendezvous.hosts();
  const bool on_one_host =
      std::all_of(hosts.begin(), hosts.end(), [&](auto& host) { return host == hosts[0]; });
  const GroupPlace place{impl_->rendezvous.store(), rank(), size(), on_one_host};
  if (device.is_cuda()) impl_->expect_own_gpu(device);
  impl_->progress.mark_start(impl_->progress.site("connecting"));
  auto group = device.is_cuda() ? make_nccl_group(place, device) : make_gloo_group(place);
  impl_->progress.mark_finish();
  impl_->progress.connect(device);
  impl_->times.connect(device);
  impl_->communicator =
      std::make_unique<Communicator>(std::move(group), device, impl_->progress, impl_->times, impl_->monitor);
}

int Mesh::rank() const { return impl_ ? impl_->rendezvous.rank() : 0; }
int Mesh::size() const { return impl_ ? impl_->rendezvous.size() : 1; }

void Mesh::all_reduce(const at::Tensor& sum) const { start_all_reduce(sum).wait(); }

void Mesh::reduce_scatter(const at::Tensor& shard, const at::Tensor& whole) const {
  start_reduce_scatter(shard, whole).wait();
}

void Mesh::all_gather(const at::Tensor& whole, const at::Tensor& shard) const {
  start_all_gather(whole, shard).wait();
}

void Mesh::broadcast(const at::Tensor& tensor, int root) const {
  expect_flat("broadcast", "tensor", tensor);
  expect(root >= 0 && root < size(), concat("broadcast from rank ", root, " of ", size()));
  if (impl_) connected().broadcast(tensor, root).wait();
}

PendingCollective Mesh::start_all_reduce(const at::Tensor& sum) const {
  expect_flat("all_reduce", "sum", sum);
  return impl_ ? connected().all_reduce(sum) : PendingCollective();
}

PendingCollective Mesh::start_reduce_scatter(const at::Tensor& shard, const at::Tensor& whole) const {
  expect_shards("reduce_scatter", whole, shard, size());
  if (impl_) return connected().reduce_scatter(shard, whole);
  shard.copy_(whole);
  return {};
}

PendingCollective Mesh::start_all_gather(const at::Tensor& whole, const at::Tensor& shard) const {
  expect_shards("all_gather", whole, shard, size());
  if (impl_) return connected().all_gather(whole, shard);
  whole.copy_(shard);
  return {};
}

Communicator& Mesh::connected() const {
  expect(impl_->communicator != nullptr, "a collective before Mesh::connect");
  return *impl_->communicator;
}

std::vector<std::string> Mesh::exchange(const std::string& mine) const {
  if (!impl_) return {mine};
  try {
    return impl_->rendezvous.exchange(mine);
  } catch (const std::exception& error) {
    throw std::runtime_error(impl_->monitor.explain_exchange(error.what()));
  }
}

std::vector<std::string> Mesh::gather(const std::string& mine) const {
  if (!impl_) return {mine};
  try {
    return impl_->rendezvous.gather(mine);
  } catch (const std::exception& error) {
    throw std::runtime_error(impl_->monitor.explain_exchange(error.what()));
  }
}

at::Tensor Mesh::collective_times() const { return impl_ ? impl_->times.totals() : at::Tensor(); }

void Mesh::barrier() const { exchange(""); }

void Mesh::agree(const std::string& complaint) const {
  const auto complaints = exchange(complaint);
  for (size_t rank = 0; rank < complaints.size(); ++rank) {
    if (complaints[rank].empty()) continue;
    if (impl_) impl_->monitor.rest();
    const bool all_say_so = std::all_of(complaints.begin(), complaints.end(),
                                        [&](const std::string& other) { return other == complaints[rank]; });
    throw InputError(all_say_so ? complaints[rank] : concat(impl_->name_of(rank), ": ", complaints[rank]));
  }
}

void Mesh::expect_same(const std::string& what, const std::string& mine) const {
  const auto all = exchange(mine);
  for (size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    impl_->monitor.rest();
    throw InputError(concat(what, " must be the same on all ranks: ", impl_->name_of(0), " has ", all[0],
                            ", ", impl_->name_of(rank), " has ", all[rank]));
  }
}

void Mesh::set_timeout(std::chrono::milliseconds timeout) const {
  if (!impl_) return;
  impl_->rendezvous.set_timeout(timeout);
  impl_->monitor.set_timeout(timeout);
}

void Mesh::on_failure(std::function<void(const std::string&, int)> action) const {
  if (impl_) impl_->monitor.on_failure(std::move(action));
}

void Mesh::announce_failure(const std::string& reason, int exit_code) const {
  if (impl_) impl_->monitor.announce(reason, exit_code);
}

}  // namespace transxssm
