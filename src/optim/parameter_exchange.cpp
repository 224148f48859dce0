#include "optim/parameter_exchange.h"

#include <algorithm>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

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

at::Tensor ParameterExchange::gathered(const FlatBuffer& buffer, at::Tensor OwnedRange::*part) const {
  const int64_t ranks = parameters_.sharding().ranks;
  at::Tensor all;
  if (mesh_.is_first()) all = at::empty({buffer.compute.numel()}, buffer.m.options().device(at::kCPU));
  int64_t begin = 0;
  for (const OwnedRange& range : parameters_.owned()) {
    if (range.buffer != &buffer) continue;
    const at::Tensor& own = range.*part;
    const at::Tensor bucket = at::empty({own.numel() * ranks}, own.options());
    mesh_.all_gather(bucket, own);
    if (all.defined()) all.narrow(0, begin, bucket.numel()).copy_(bucket);
    begin += bucket.numel();
  }
  return all;
}

WholeState ParameterExchange::gathered(const FlatBuffer& buffer) const {
  return {buffer.master.is_same(buffer.compute) ? buffer.master : gathered(buffer, &OwnedRange::master),
          gathered(buffer, &OwnedRange::m), gathered(buffer, &OwnedRange::v)};
}

void ParameterExchange::save_state(StateDict& out) const {
  const at::NoGradGuard no_grad;
  if (!parameters_.sharding().optimizer_state) {
    if (mesh_.is_first()) parameters_.save_state(out);
    return;
  }
  const WholeState matrices = gathered(parameters_.matrices());
  const WholeState vectors = gathered(parameters_.vectors());
  if (mesh_.is_first()) parameters_.save_state(matrices, vectors, out);
}

}  // namespace transxssm
