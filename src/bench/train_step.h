// The training step as `transxssm train` runs it, on random tokens, timed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/queued_times.h"
#include "bench/step_parts.h"
#include "config/run_config.h"
#include "data/batch.h"
#include "parallel/mesh.h"
#include "trainer/device.h"

namespace transxssm::bench {

struct StepTiming {
  int64_t documents = 0;  // of a micro-batch, mean
  Spread time;
  double flops = 0;                 // model FLOPs of a rank's step, by the documents in it
  double communication_ms = 0;      // of a step: collectives ran,
  double exposed_ms = 0;            // and other work waited for them
  std::optional<StepTime> by_part;  // on a GPU
};

struct StepReport {
  ComputeDevice device;
  int64_t tokens = 0;           // of a step, all ranks
  double start_up_seconds = 0;  // from the start of the process to the first step at full speed
  uint64_t memory_peak = 0, memory_held = 0, memory_expected = 0;
  int ranks = 1;
  std::vector<StepTiming> timings;  // one document a window; isolated documents
};

// One micro-batch of random tokens, of each of `ranks`. concatenated: every window is one document, and the
// program knows it, as in a run with data.packing: concatenated. isolated: documents of a corpus' lengths.
GlobalBatch random_batch(const RunConfig& config, Packing packing, uint64_t seed, int ranks = 1);

// One micro-batch of each rank and one update a step, whatever the global batch of `config`. Throws
// InputError where it does not fit. Every rank of `mesh`, not yet connected, calls it and reports what it
// saw.
StepReport time_train_step(const RunConfig& config, int repeats, Mesh& mesh);

}  // namespace transxssm::bench
