#include "bench/train_step.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>

#include <unistd.h>

#include "bench/random_documents.h"
#include "core/check.h"
#include "core/rng.h"
#include "data/packing.h"
#include "model/accounting.h"
#include "optim/init.h"
#include "parallel/agreement.h"
#include "trainer/device_batch.h"
#include "trainer/learner.h"
#include "trainer/plan.h"

namespace transxssm::bench {
namespace {

constexpr double kLearningRate = 1e-5;  // its value changes no time
constexpr size_t kBatches = 4;          // that take turns
constexpr int kProfiled = 5;

int64_t documents_of(const GlobalBatch& batch) {
  const auto& offsets = batch.micro_batches.front().document_offsets;
  int64_t count = 0;
  for (size_t i = 1; i < offsets.size(); ++i) count += offsets[i] > offsets[i - 1];
  return count;
}

void run(Learner& learner, const GlobalBatch& batch) {
  learner.step.run(batch, kLearningRate, [] { return false; });
}

// Milliseconds of collectives so far, and of waiting for them.
std::array<double, 2> collective_ms(const Mesh& mesh) {
  const at::Tensor times = mesh.collective_times();
  if (!times.defined()) return {0, 0};
  const at::Tensor host = times.cpu();
  return {static_cast<double>(host[0].item<int64_t>()) * 1e-6,
          static_cast<double>(host[1].item<int64_t>()) * 1e-6};
}

StepTiming time_batches(Learner& learner, const RunConfig& config, const std::vector<GlobalBatch>& batches,
                        at::Device device, int repeats, const Mesh& mesh) {
  StepTiming timing;
  double flops = 0;
  for (const GlobalBatch& batch : batches) {
    timing.documents += documents_of(batch);
    const Batch& b = batch.micro_batches.front();
    flops += train_flops_per_token(config.model, mean_keys(b)) * static_cast<double>(b.batch * b.seq_len);
  }
  timing.documents /= static_cast<int64_t>(batches.size());
  timing.flops = flops / static_cast<double>(batches.size());
  for (const GlobalBatch& batch : batches) run(learner, batch);
  mesh.barrier();
  const auto before = collective_ms(mesh);
  timing.time = spread_of(queued_times(
      device, repeats, [&](int i) { run(learner, batches[static_cast<size_t>(i) % batches.size()]); }));
  const auto after = collective_ms(mesh);
  timing.communication_ms = (after[0] - before[0]) / repeats;
  timing.exposed_ms = (after[1] - before[1]) / repeats;
  if (!device.is_cuda()) return timing;
  Profiler profiler(device);
  for (int i = 0; i < kProfiled; ++i) run(learner, batches[static_cast<size_t>(i) % batches.size()]);
  timing.by_part = step_time(profiler.stop().device_activities(), kProfiled);
  return timing;
}

// Since the process was started, library loading included.
double seconds_since_launch() {
  std::ifstream stat("/proc/self/stat"), uptime("/proc/uptime");
  std::string line;
  double up = 0;
  uptime >> up;
  std::getline(stat, line);
  std::istringstream fields(line.substr(line.rfind(')') + 2));
  std::string field;
  constexpr int kStartTime = 20;  // the 22nd of proc(5); two come before the closing bracket
  for (int i = 0; i < kStartTime; ++i) fields >> field;
  return up - std::stod(field) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace

GlobalBatch random_batch(const RunConfig& config, Packing packing, uint64_t seed, int ranks) {
  const int64_t rows = config.train.micro_batch_size, tokens = config.train.seq_len;
  const Philox random(seed);
  const auto starts = random_document_starts(rows, tokens, seed);
  std::vector<Window> windows;
  uint64_t drawn = 0;
  for (int64_t row = 0; row < rows; ++row) {
    Window window;
    for (int64_t t = 0; t <= tokens; ++t)
      window.tokens.push_back(
          static_cast<int32_t>(random.block(drawn++)[0] % static_cast<uint32_t>(config.model.vocab_size)));
    const auto& begins = starts[static_cast<size_t>(row)];
    if (packing == Packing::isolated) window.document_starts.assign(begins.begin() + 1, begins.end());
    windows.push_back(std::move(window));
  }
  GlobalBatch batch;
  batch.micro_batches.push_back(pack(windows, packing));
  batch.counted_labels =
      ranks * batch.micro_batches.front().counted_labels;  // nearly: others' documents differ
  return batch;
}

StepReport time_train_step(const RunConfig& given, int repeats, Mesh& mesh) {
  RunConfig config = given;
  config.train.global_batch_size = config.train.micro_batch_size * mesh.size();
  StepReport report;
  report.device = choose_device(config.train.device, config.precision.compute);
  const at::Device device = report.device.device;
  config.data.validation.clear();  // no part of a step, and none of the memory that one needs
  config.data.tasks.clear();
  for (const auto& [packing, name] : enum_names(Packing{})) {  // batches of both kinds run
    RunConfig packed = config;
    packed.data.packing = packing;
    agreed(mesh, [&] {
      expect_room(packed, report.device, free_memory(report.device), mesh.size(), MicroBatches::any);
    });
    const uint64_t peak = plan_memory(packed, report.device, mesh.size()).peak();
    report.memory_expected = std::max(report.memory_expected, peak);
  }
  report.tokens = config.train.global_batch_size * config.train.seq_len;
  report.ranks = mesh.size();
  mesh.connect(device);

  Learner learner(config, report.device, mesh.size() > 1 ? &mesh : nullptr);
  initialize(learner.parameters, config.train.seed);
  const auto batches = [&](Packing packing) {
    std::vector<GlobalBatch> all;
    for (uint64_t number = 0; number < kBatches; ++number)
      all.push_back(random_batch(config, packing, 1 + number + kBatches * static_cast<uint64_t>(mesh.rank()),
                                 mesh.size()));
    return all;
  };
  const auto one_document = batches(Packing::concatenated), isolated = batches(Packing::isolated);
  const auto& first = config.data.packing == Packing::isolated ? isolated : one_document;
  run(learner, first[0]);  // plain
  run(learner, first[1]);  // recorded, where there are graphs
  wait_for(device);
  report.start_up_seconds = seconds_since_launch();
  report.timings.push_back(time_batches(learner, config, one_document, device, repeats, mesh));
  report.timings.push_back(time_batches(learner, config, isolated, device, repeats, mesh));
  report.memory_peak = memory_peak(report.device);
  report.memory_held = memory_held(report.device);
  return report;
}

}  // namespace transxssm::bench
