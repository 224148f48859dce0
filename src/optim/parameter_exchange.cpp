#include "optim/parameter_exchange.h"

#include <algorithm>
#include <utility>

#include <ATen/core/grad_mode.h>

namespace transxssm {

ParameterExchange::ParameterExchange(FlatParameters& parameters, const Mesh& mesh,
                                     at::ScalarType reduce_dtype)
    : parameters_(parameters), mesh_(mesh), reduce_dtype_(reduce_dtype) {
  const Sharding& sharding = parameters.sharding();
  expect(sharding.ranks == mesh.size() && sharding.rank == mesh.rank(),
         concat("parameters are divided for rank ", sharding.rank, " of ", sharding.ranks,
                ", the mesh has rank ", mesh.rank(), " of ", mesh.size()));
  for (const FlatBuffer* buffer : {&parameters.matrices(), &parameters.vectors()})
    for (const Bucket& bucket : buffer->buckets) order_.push_back({buffer, &bucket});
  std::stable_sort(order_.begin(), order_.end(), [](const Place& a, const Place& b) {
    return a.bucket->specs.front() > b.bucket->specs.front();
  });
}

void ParameterExchange::gradients_final(size_t first_spec) {
  const at::NoGradGuard no_grad;
  for (; sent_ < order_.size() && order_[sent_].bucket->specs.front() >= first_spec; ++sent_)
    send_gradients(order_[sent_]);
}

void ParameterExchange::send_gradients(const Place& place) {
  const Bucket& bucket = *place.bucket;
  const Sharding& sharding = parameters_.sharding();
  parameters_.complete_gradients(bucket);
  const at::Tensor grad = place.buffer->grad.narrow(0, bucket.begin, bucket.end - bucket.begin);
  const at::Tensor sent = grad.to(reduce_dtype_);  // itself where that is its type
  if (!sharding.optimizer_state) {
    sums_.push_back({mesh_.start_all_reduce(sent), sent, grad});
    return;
  }
  const int64_t part = bucket.part(sharding.ranks);
  const auto own = [&](const at::Tensor& whole) { return whole.narrow(0, sharding.rank * part, part); };
  sums_.push_back({mesh_.start_reduce_scatter(own(sent), sent), sent, grad});
  sums_.back().sent = own(sent);
  sums_.back().grad = own(grad);
}

void ParameterExchange::finish_gradients() {
  gradients_final(0);
  const at::NoGradGuard no_grad;
  for (Sum& sum : sums_) {
    sum.pending.wait();
    if (sum.sent.scalar_type() != sum.grad.scalar_type()) sum.grad.copy_(sum.sent);
  }
  sums_.clear();
  sent_ = 0;
}

void ParameterExchange::weights_final(const OwnedRange& range) {
  const Sharding& sharding = parameters_.sharding();
  if (!sharding.optimizer_state) return;
  const int64_t part = range.end - range.begin;
  const int64_t begin = range.begin - sharding.rank * part;  // of the bucket
  const at::Tensor whole = range.buffer->compute.narrow(0, begin, part * sharding.ranks);
  weights_.push_back(mesh_.start_all_gather(whole, whole.narrow(0, sharding.rank * part, part)));
}

void ParameterExchange::finish_weights() {
  for (PendingCollective& pending : weights_) pending.wait();
  weights_.clear();
}

void ParameterExchange::share_state() {
  const at::NoGradGuard no_grad;
  const Sharding& sharding = parameters_.sharding();
  if (sharding.optimizer_state) {
    for (const OwnedRange& range : parameters_.owned()) weights_final(range);
    finish_weights();
    return;
  }
  for (const auto& [buffer, bucket] : order_) {
    const int64_t part = bucket->part(sharding.ranks);
    for (const at::Tensor& state : {buffer->master, buffer->m, buffer->v}) {
      const at::Tensor whole = state.narrow(0, bucket->begin, bucket->end - bucket->begin);
      mesh_.all_gather(whole, whole.narrow(0, sharding.rank * part, part));
    }
  }
  parameters_.refresh_compute();
}

}  // namespace transxssm
