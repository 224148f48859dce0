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
    for (const Bucket& bucket : buffer->buckets)
      order_.push_back({buffer, &bucket, owned_part(*buffer, bucket)});
  std::stable_sort(order_.begin(), order_.end(), [](const Place& a, const Place& b) {
    return a.bucket->specs.front() > b.bucket->specs.front();
  });
  if (sharding.shares_weights()) weight_ring_.emplace(parameters, mesh);
}

at::Tensor ParameterExchange::owned_part(const FlatBuffer& buffer, const Bucket& bucket) const {
  if (!parameters_.sharding().shares_state()) return {};
  for (const OwnedRange& range : parameters_.owned())
    if (range.buffer == &buffer && range.begin >= bucket.begin && range.end <= bucket.end) return range.grad;
  return {};
}

void ParameterExchange::start_gradients(Turn turn) { turn_ = turn; }

void ParameterExchange::gradients_final(size_t first_spec) {
  const at::NoGradGuard no_grad;
  for (; sent_ < order_.size() && order_[sent_].bucket->specs.front() >= first_spec; ++sent_)
    if (order_[sent_].in_ring() || turn_.last) send_gradients(order_[sent_]);
  free_next_slot();
  if (weight_ring_) weight_ring_->backward(first_spec);
}

void ParameterExchange::send_gradients(const Place& place) {
  const Bucket& bucket = *place.bucket;
  const Sharding& sharding = parameters_.sharding();
  parameters_.complete_gradients(*place.buffer, bucket);
  const at::Tensor grad = place.buffer->gradients(bucket);
  const at::Tensor sent = grad.to(reduce_dtype_);  // itself where that is its type
  if (!sharding.shares_state()) {
    sums_.push_back({&place, mesh_.start_all_reduce(sent), sent, grad});
    return;
  }
  const int64_t part = bucket.part(sharding.ranks);
  const at::Tensor own = sent.narrow(0, sharding.rank * part, part);
  sums_.push_back({&place, mesh_.start_reduce_scatter(own, sent), own, place.owned});
  if (place.in_ring()) parameters_.drop_gradients(bucket);
}

void ParameterExchange::finish(Sum& sum) {
  sum.pending.wait();
  if (sum.place->in_ring() && !turn_.first)
    sum.grad.add_(sum.sent);
  else if (!sum.sent.is_alias_of(sum.grad))
    sum.grad.copy_(sum.sent);
}

void ParameterExchange::free_next_slot() {
  const auto next = std::find_if(order_.begin() + static_cast<std::ptrdiff_t>(sent_), order_.end(),
                                 [](const Place& place) { return place.in_ring(); });
  if (next == order_.end()) return;
  for (auto sum = sums_.begin(); sum != sums_.end();) {
    const bool in_the_way = sum->place->in_ring() && sum->place->bucket->slot == next->bucket->slot;
    if (in_the_way) finish(*sum);
    sum = in_the_way ? sums_.erase(sum) : sum + 1;
  }
}

void ParameterExchange::finish_gradients() {
  gradients_final(0);
  const at::NoGradGuard no_grad;
  for (Sum& sum : sums_) finish(sum);
  sums_.clear();
  sent_ = 0;
}

void ParameterExchange::weights_final(const OwnedRange& range) {
  const Sharding& sharding = parameters_.sharding();
  if (!sharding.shares_state()) return;
  if (range.buffer->weight_ring.defined()) return;  // the next pass gathers them
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
  if (sharding.shares_state()) {
    for (const OwnedRange& range : parameters_.owned()) weights_final(range);
    finish_weights();
    return;
  }
  for (const Place& place : order_) {
    const int64_t part = place.bucket->part(sharding.ranks);
    for (const at::Tensor& state : {place.buffer->master, place.buffer->m, place.buffer->v}) {
      const at::Tensor whole = state.narrow(0, place.bucket->begin, place.bucket->size());
      mesh_.all_gather(whole, whole.narrow(0, sharding.rank * part, part));
    }
  }
  parameters_.refresh_compute();
}

}  // namespace transxssm
