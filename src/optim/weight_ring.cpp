#include "optim/weight_ring.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>

#include "core/check.h"

namespace transxssm {
namespace {

// As lay_out() numbers blocks.
size_t unit_of(size_t spec, const std::vector<size_t>& first_specs) {
  return static_cast<size_t>(std::upper_bound(first_specs.begin(), first_specs.end(), spec) -
                             first_specs.begin());
}

}  // namespace

WeightRing::WeightRing(const FlatParameters& parameters, const Mesh& mesh)
    : mesh_(mesh),
      first_specs_(parameters.sharding().blocks),
      units_(first_specs_.size() + 1),
      slots_(1 + kRingBlocks) {
  expect(first_specs_.size() >= 2, "shared weights: no blocks");
  const FlatBuffer& matrices = parameters.matrices();
  for (const Bucket& bucket : matrices.buckets) {
    const auto range =
        std::find_if(parameters.owned().begin(), parameters.owned().end(), [&](const OwnedRange& candidate) {
          return candidate.buffer == &matrices && bucket.begin <= candidate.begin &&
                 candidate.end <= bucket.end;
        });
    units_[unit_of(bucket.specs.front(), first_specs_)] = {
        bucket.slot, matrices.weight_ring.narrow(0, bucket.in_ring, bucket.size()),
        range->compute.defined() ? range->compute : range->master};
  }
  if (units_.back().slot < 0) units_.back() = units_.front();
}

void WeightRing::start(size_t unit) {
  const Unit& wanted = units_[unit];
  if (wanted.slot < 0) return;
  Slot& slot = slots_[static_cast<size_t>(wanted.slot)];
  if (slot.holds && slot.holds->whole.is_same(wanted.whole)) return;
  slot.holds = &wanted;
  slot.pending = mesh_.start_all_gather(wanted.whole, wanted.own);
}

void WeightRing::use(size_t unit) {
  start(unit);
  if (units_[unit].slot >= 0) slots_[static_cast<size_t>(units_[unit].slot)].pending.wait();
}

void WeightRing::forward(size_t first_spec) {
  const at::NoGradGuard no_grad;
  const size_t unit = unit_of(first_spec, first_specs_);
  if (unit == 0)
    for (Slot& slot : slots_) slot.holds = nullptr;
  use(unit);
  if (unit < last_block()) start(unit + 1);
  if (unit == 1) start(units_.size() - 1);  // the embedding has been read
}

void WeightRing::backward(size_t first_spec) {
  const at::NoGradGuard no_grad;
  const auto done = std::find(first_specs_.begin(), first_specs_.end(), first_spec);
  const auto next = static_cast<size_t>(done - first_specs_.begin());  // the unit before
  if (done == first_specs_.end() || next == 0) return;
  use(next);
  if (next > 1) start(next - 1);
}

}  // namespace transxssm
