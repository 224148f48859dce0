#include "parallel/collective_times.h"

#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "csrc_cuda/progress/params.h"

namespace transxssm {
namespace {

int64_t now() {
  const auto since_start = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(since_start).count();
}

int64_t* numbers(const at::Tensor& tensor) { return tensor.mutable_data_ptr<int64_t>(); }

CUstream_st* current_stream(at::Device device) {
  const c10::impl::VirtualGuardImpl guard(device.type());
  return static_cast<CUstream_st*>(guard.getStreamNativeHandle(guard.getStream(device)));
}

}  // namespace

CollectiveTimes::CollectiveTimes() : totals_(at::zeros({2}, at::kLong)), since_(at::zeros_like(totals_)) {}

void CollectiveTimes::connect(at::Device device) {
  totals_ = at::zeros({2}, at::device(device).dtype(at::kLong));
  since_ = at::zeros_like(totals_);
}

void CollectiveTimes::begin(What what) {
  if (totals_.is_cuda())
    kernels::mark_time({numbers(since_) + what, nullptr}, current_stream(totals_.device()));
  else if (under_way_[what]++ == 0)
    numbers(since_)[what] = now();
}

void CollectiveTimes::end(What what) {
  if (totals_.is_cuda())
    kernels::mark_time({numbers(since_) + what, numbers(totals_) + what}, current_stream(totals_.device()));
  else if (--under_way_[what] == 0)
    numbers(totals_)[what] += now() - numbers(since_)[what];
}

}  // namespace transxssm
