// What a run will need, worked out from its configuration alone: memory by part, arithmetic, time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "model/memory.h"
#include "trainer/device.h"

namespace transxssm {

struct MemoryPart {
  std::string name;
  uint64_t bytes = 0;
};

struct MemoryPlan {
  std::vector<MemoryPart> parts;  // that exist at the same time, at the worst moment of a step
  uint64_t peak() const;
  std::string text() const;  // "weights 2.07 GiB, gradients 1.38 GiB, …"
};

// The micro-batches of the run, as model/memory counts them.
ActivationShape activation_shape(const RunConfig& config, const ComputeDevice& device);

// Of each of `ranks` that train together; so are the others.
MemoryPlan plan_memory(const RunConfig& config, const ComputeDevice& device, int64_t ranks = 1);

// What to change so that the run fits into `available` bytes: the largest micro-batch, with recompute if
// needed; nothing when it fits as it is.
std::optional<std::string> advice_to_fit(const RunConfig& config, const ComputeDevice& device,
                                         uint64_t available, int64_t ranks = 1);

// Throws InputError, before anything large is allocated, with the predicted bytes by part and that advice.
void expect_room(const RunConfig& config, const ComputeDevice& device, uint64_t available, int64_t ranks = 1);

struct StepPlan {
  double flops = 0;               // model FLOPs, by the formula of logged MFU, one document a window
  std::optional<double> seconds;  // from rates measured on a GPU; unknown where the device's peak is
};

// By `ranks` that train together, as if what they tell each other cost no time.
StepPlan plan_step(const RunConfig& config, const ComputeDevice& device, int64_t ranks = 1);

// What each of `ranks` sends in a step: sums of gradients, from stage 2 on after every micro-step, and from
// stage 1 on the weights that it has updated; at stage 3 instead those that each micro-step reads.
uint64_t sent_bytes(const RunConfig& config, const ComputeDevice& device, int64_t ranks);

// Bytes of one checkpoint's tensors.
uint64_t checkpoint_bytes(const RunConfig& config);

}  // namespace transxssm
