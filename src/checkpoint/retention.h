// Which checkpoints stay: the last k and every n-th step. Nothing is removed before k newer ones verified.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/locate.h"

namespace transxssm {

struct Retention {
  int64_t keep_last = 3;   // at least 1
  int64_t keep_every = 0;  // steps; 0 = keep none for this reason
};

struct RetentionPlan {
  std::vector<CheckpointEntry> kept;
  std::vector<CheckpointEntry> removed;
  std::vector<CheckpointEntry>
      damaged;  // in the way of the last k: neither counted nor removed; `problem` says why
};

// `entries` as list_checkpoints gives them. `damage` is asked only about those that count as the last k.
RetentionPlan plan_retention(std::vector<CheckpointEntry> entries, const Retention& retention,
                             const DamageOf& damage = damage_of);

// Removes a step folder such that it is whole or gone at any moment.
void remove_checkpoint(const std::filesystem::path& folder);

}  // namespace transxssm
