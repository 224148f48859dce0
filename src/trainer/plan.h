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
  // Of validation, where captured steps keep their memory meanwhile; elsewhere it takes what a step has
  // freed.
  uint64_t beside = 0;
  uint64_t peak() const;  // of a step
  uint64_t needed() const { return peak() + beside; }
  std::string text() const;  // "weights 2.07 GiB, gradients 1.38 GiB, …"
};

// The micro-batches of the run, as model/memory counts them.
ActivationShape activation_shape(const RunConfig& config, const ComputeDevice& device);

// Of each of `ranks` that train together; so are the others.
MemoryPlan plan_memory(const RunConfig& config, const ComputeDevice& device, int64_t ranks = 1);

// Of the memory of a device: what a plan may be wrong by, and what lies idle between tensors. A plan that
// comes nearer than this fits only perhaps.
constexpr double kMemoryMargin = 0.03;

// Which micro-batches there are to choose from.
enum class MicroBatches {
  dividing,  // train.global_batch_size, by the ranks
  any        // for a step alone, whatever the global batch
};

// What to change so that the run fits into `available` bytes: the largest micro-batch, with recompute if
// needed; nothing when it fits as it is.
std::optional<std::string> advice_to_fit(const RunConfig& config, const ComputeDevice& device,
                                         uint64_t available, int64_t ranks = 1,
                                         MicroBatches choice = MicroBatches::dividing);

// Throws InputError, before anything large is allocated, with the predicted bytes by part and that advice.
void expect_room(const RunConfig& config, const ComputeDevice& device, uint64_t available, int64_t ranks = 1,
                 MicroBatches choice = MicroBatches::dividing);

struct StepPlan {
  double flops = 0;  // model FLOPs, by the formula of logged MFU, one document a window
  // One document a window; isolated documents see fewer keys, and no plan knows how long they are.
  std::optional<double> seconds;
  std::string why_no_time;  // where there is no time: what its rates are of, and this run is not
};

// The time is for an H100 SXM, bf16, every operator's kernels and captured graphs, at sizes from which on the
// rates of parts are those of docs/benchmarks.md; by `ranks` that train together, as if what they tell each
// other cost none.
StepPlan plan_step(const RunConfig& config, const ComputeDevice& device, int64_t ranks = 1);

// What each of `ranks` sends in a step: sums of gradients, from stage 2 on after every micro-step, and from
// stage 1 on the weights that it has updated; at stage 3 instead those that each micro-step reads.
uint64_t sent_bytes(const RunConfig& config, const ComputeDevice& device, int64_t ranks);

// Bytes of one checkpoint's tensors.
uint64_t checkpoint_bytes(const RunConfig& config);

}  // namespace transxssm
