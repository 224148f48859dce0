#include "parallel/communicator.h"

#include <exception>
#include <utility>

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include "core/check.h"

namespace transxssm {
namespace {

std::string text_of(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  return torch_error ? torch_error->what_without_backtrace() : error.what();
}

}  // namespace

struct PendingCollective::Impl {
  Communicator& communicator;
  std::string what;
  std::vector<at::Tensor> kept;  // alive until what follows comes after the collective
  c10::intrusive_ptr<c10d::Work> work;
  std::optional<c10::Event> done;  // on a GPU

  void wait() {
    if (done) {
      const c10::impl::VirtualGuardImpl device(done->device_type());
      communicator.times_.begin_wait();
      done->block(device.getStream(kept[0].device()));
      communicator.times_.end_wait();
      return;
    }
    communicator.times_.begin_wait();
    try {
      work->wait();
    } catch (const std::exception& error) {
      communicator.fail(what, text_of(error));
    }
    communicator.times_.end_wait();
    communicator.times_.end_run();
    communicator.progress_.mark_finish();
  }
};

PendingCollective::PendingCollective() = default;
PendingCollective::PendingCollective(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PendingCollective::PendingCollective(PendingCollective&&) noexcept = default;
PendingCollective& PendingCollective::operator=(PendingCollective&&) noexcept = default;
PendingCollective::~PendingCollective() = default;

void PendingCollective::wait() {
  if (const auto impl = std::move(impl_)) impl->wait();
}

Communicator::Communicator(c10::intrusive_ptr<c10d::Backend> group, at::Device device,
                           CollectiveProgress& progress, CollectiveTimes& times, Monitor& monitor)
    : group_(std::move(group)), device_(device), progress_(progress), times_(times), monitor_(monitor) {
  // A collective waits for every other rank: let it take its few multiprocessors as soon as it can go on.
  if (device.is_cuda())
    stream_ =
        c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, /*isHighPriority=*/true);
}

Communicator::~Communicator() {
  // After a failure the others may never take part in an orderly end.
  std::uncaught_exceptions() > 0 ? group_->abort() : group_->shutdown();
}

void Communicator::fail(const std::string& what, const std::string& why) {
  throw std::runtime_error(monitor_.explain(concat(what, ": ", why)));
}

template <class Begin>
PendingCollective Communicator::start(const char* name, const std::vector<at::Tensor>& tensors,
                                      Begin&& begin) {
  const at::Tensor& whole = tensors[0];
  expect(whole.device() == device_,
         concat(name, ": the mesh is connected for ", device_, ", the tensor is on ", whole.device()));
  std::string what = concat(name, " of [", whole.numel(), "] ", whole.scalar_type());
  const uint64_t site = progress_.site(what);
  auto pending = std::make_unique<PendingCollective::Impl>(
      PendingCollective::Impl{*this, std::move(what), tensors, nullptr, std::nullopt});
  std::optional<c10::Event> ready;
  std::optional<c10::StreamGuard> on_stream;
  if (stream_) {
    const c10::impl::VirtualGuardImpl device(device_.type());
    ready.emplace(device_.type());
    ready->record(device.getStream(device_));
    ready->block(*stream_);
    on_stream.emplace(*stream_);
  }
  progress_.mark_start(site);
  times_.begin_run();
  try {
    pending->work = begin(*group_);
    if (stream_ && pending->work) pending->work->wait();
  } catch (const std::exception& error) {
    fail(pending->what, text_of(error));
  }
  if (stream_) {
    times_.end_run();
    progress_.mark_finish();
    pending->done.emplace(device_.type());
    pending->done->record(*stream_);
  }
  return PendingCollective(std::move(pending));
}

// c10d's synchronous forms stay on the current stream of a GPU; on a CPU only the others say why they failed.

PendingCollective Communicator::all_reduce(const at::Tensor& sum) {
  return start("all_reduce", {sum}, [&](c10d::Backend& group) {
    std::vector<at::Tensor> tensors{sum};
    c10d::AllreduceOptions options;
    options.asyncOp = !stream_;
    return group.allreduce(tensors, options);
  });
}

PendingCollective Communicator::reduce_scatter(const at::Tensor& shard, const at::Tensor& whole) {
  return start("reduce_scatter", {whole, shard}, [&](c10d::Backend& group) {
    at::Tensor output = shard;
    at::Tensor input = whole;
    c10d::ReduceScatterOptions options;
    options.asyncOp = !stream_;
    return group._reduce_scatter_base(output, input, options);
  });
}

PendingCollective Communicator::all_gather(const at::Tensor& whole, const at::Tensor& shard) {
  return start("all_gather", {whole, shard}, [&](c10d::Backend& group) {
    at::Tensor output = whole;
    at::Tensor input = shard;
    c10d::AllgatherOptions options;
    options.asyncOp = !stream_;
    return group._allgather_base(output, input, options);
  });
}

PendingCollective Communicator::broadcast(const at::Tensor& tensor, int root) {
  return start("broadcast", {tensor}, [&](c10d::Backend& group) {
    std::vector<at::Tensor> tensors{tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    options.asyncOp = !stream_;
    return group.broadcast(tensors, options);
  });
}

}  // namespace transxssm
