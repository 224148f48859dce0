#include "parallel/progress.h"

#include <atomic>

#include <ATen/ops/zeros.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "csrc_cuda/progress/params.h"

namespace transxssm {
namespace {

uint64_t* words(const at::Tensor& tensor) { return static_cast<uint64_t*>(tensor.mutable_data_ptr()); }

CUstream_st* current_stream(at::Device device) {
  const c10::impl::VirtualGuardImpl guard(device.type());
  return static_cast<CUstream_st*>(guard.getStreamNativeHandle(guard.getStream(device)));
}

}  // namespace

CollectiveProgress::CollectiveProgress() : host_(at::zeros({kSlots}, at::kLong)) {}

void CollectiveProgress::connect(at::Device device) {
  if (!device.is_cuda()) return;
  const std::lock_guard lock(mutex_);
  host_ = at::zeros({kSlots}, at::device(at::kCPU).dtype(at::kLong).pinned_memory(true));
  counters_ = at::zeros({2}, at::device(device).dtype(at::kLong));
}

uint64_t CollectiveProgress::site(const std::string& description) {
  const std::lock_guard lock(mutex_);
  const auto [found, is_new] = sites_.try_emplace(description, sites_.size() + 1);
  if (is_new) descriptions_[found->second] = description;
  return found->second;
}

uint64_t CollectiveProgress::load(Slot slot) const {
  return std::atomic_ref(words(host_)[slot]).load(std::memory_order_acquire);
}

void CollectiveProgress::count(Slot slot, uint64_t site) {
  uint64_t* host = words(host_);
  if (counters_.defined()) {
    kernels::mark_progress({words(counters_) + slot, host + slot, site > 0 ? host + kSite : nullptr, site},
                           current_stream(counters_.device()));
    return;
  }
  if (site > 0) std::atomic_ref(host[kSite]).store(site, std::memory_order_release);
  std::atomic_ref(host[slot]).fetch_add(1, std::memory_order_acq_rel);
}

void CollectiveProgress::mark_start(uint64_t site) { count(kStarted, site); }
void CollectiveProgress::mark_finish() { count(kFinished, 0); }

CollectiveProgress::Seen CollectiveProgress::seen() const {
  const std::lock_guard lock(mutex_);
  Seen seen{load(kStarted), load(kFinished), "nothing"};
  const auto found = descriptions_.find(load(kSite));
  if (found != descriptions_.end()) seen.last = found->second;
  return seen;
}

}  // namespace transxssm
