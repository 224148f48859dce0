#include "cli/plan.h"

#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/table.h"
#include "config/load.h"
#include "core/atomic_file.h"
#include "core/check.h"
#include "data/loader.h"
#include "model/accounting.h"
#include "model/memory.h"
#include "trainer/plan.h"
#include "trainer/progress.h"

namespace transxssm {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  std::string on = "here";
  int64_t gpus = 1;
};

std::string number(double value, const char* format) {
  char text[48];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

void print_parameters(const RunConfig& config) {
  const ParameterCounts counts = count_parameters(config.model);
  std::vector<Row> rows = {{"parameters", ""}};
  for (const auto& [part, count] : count_by_part(config.model)) rows.push_back({part, std::to_string(count)});
  rows.push_back({"total", std::to_string(counts.total)});
  rows.push_back({"without embeddings", std::to_string(counts.non_embedding)});
  print_table(rows);
}

void print_work(const RunConfig& config, const ComputeDevice& device, int64_t ranks) {
  const double steps = static_cast<double>(config.train.max_steps);
  const double tokens = static_cast<double>(config.train.global_batch_size * config.train.seq_len);
  const StepPlan step = plan_step(config, device, ranks);
  std::vector<Row> rows = {{"", ""},
                           {"tokens of a step", number(tokens, "%.0f")},
                           {"steps", std::to_string(config.train.max_steps)},
                           {"tokens", number(tokens * steps, "%.4g")},
                           {"model FLOPs of a step", number(step.flops, "%.4g")},
                           {"model FLOPs", number(step.flops * steps, "%.4g")}};
  if (step.seconds) {
    rows.push_back({"predicted, one document a window", ""});
    if (config.data.packing == Packing::isolated)
      rows.back().back() = "isolated documents take less: they see fewer keys";
    if (ranks > 1) rows.push_back({"predicted, communication", "as if it took no time"});
    rows.push_back({"time of a step", number(*step.seconds, "%.3g s")});
    rows.push_back({"tokens per second", number(tokens / *step.seconds, "%.4g")});
    rows.push_back(
        {"MFU", number(100 * step.flops / *step.seconds / device.peak_flops / static_cast<double>(ranks),
                       "%.1f %%")});
    rows.push_back({"time of the run", format_duration(*step.seconds * steps)});
  } else {
    rows.push_back({"time", "not predicted: the known rates are of " + step.why_no_time});
  }
  if (ranks > 1)
    rows.push_back({"sent by each rank in a step", format_bytes(sent_bytes(config, device, ranks))});
  rows.push_back({"checkpoint", format_bytes(checkpoint_bytes(config))});
  print_table(rows);
}

void print_kept(const RunConfig& config, const ComputeDevice& device) {
  const ActivationShape shape = activation_shape(config, device);
  std::map<MixerKind, int> layers;
  for (const MixerKind mixer : layer_mixers(config.model)) ++layers[mixer];
  for (const auto& [mixer, count] : layers) {
    std::vector<Row> rows = {
        {concat("kept by each of ", count, mixer == MixerKind::ssd ? " SSD layers" : " attention layers"),
         "saved by", ""}};
    for (const KeptTensor& kept : kept_by_block(config.model, mixer, shape, config.train.recompute))
      rows.push_back({kept.name, kept.saved, format_bytes(static_cast<uint64_t>(kept.bytes))});
    std::cout << '\n';
    print_table(rows);
  }
}

void print_memory(const RunConfig& config, const ComputeDevice& device, uint64_t available, int64_t ranks) {
  const MemoryPlan memory = plan_memory(config, device, ranks);
  std::vector<Row> rows = {{"", ""},
                           {ranks > 1 ? "memory of each rank at the peak" : "memory at the peak", ""}};
  for (const MemoryPart& part : memory.parts) rows.push_back({part.name, format_bytes(part.bytes)});
  rows.push_back({"total", format_bytes(memory.peak())});
  if (memory.beside > 0) rows.push_back({"validation, beside captured steps", format_bytes(memory.beside)});
  rows.push_back({"available", format_bytes(available)});
  print_table(rows);
  const auto safely = static_cast<uint64_t>((1 - kMemoryMargin) * static_cast<double>(available));
  const auto advice = advice_to_fit(config, device, available, ranks);
  const auto safe_advice = advice_to_fit(config, device, safely, ranks);
  std::string verdict = "fits";
  if (safe_advice)
    verdict = concat("may not fit: less than ", number(100 * kMemoryMargin, "%.0f"),
                     " % would be free, which a plan may be wrong by; surely: ", *safe_advice);
  if (advice) verdict = "does not fit: " + *advice;
  std::cout << '\n' << verdict << '\n';
}

// The same run at every stage (docs/distributed.md).
void print_stages(RunConfig config, const ComputeDevice& device, int64_t ranks) {
  std::vector<Row> rows = {{"parallel.zero_stage", "memory of each rank", "sent by each rank in a step"}};
  for (config.parallel.zero_stage = 0; config.parallel.zero_stage <= kLastZeroStage;
       ++config.parallel.zero_stage)
    rows.push_back({std::to_string(config.parallel.zero_stage),
                    format_bytes(plan_memory(config, device, ranks).peak()),
                    format_bytes(sent_bytes(config, device, ranks))});
  std::cout << '\n';
  print_table(rows);
}

void plan(const Options& options) {
  const RunConfig config = load_config(options.config, options.overrides);
  expect_divides({.seq_len = config.train.seq_len,
                  .global_batch_size = config.train.global_batch_size,
                  .micro_batch_size = config.train.micro_batch_size,
                  .ranks = options.gpus});
  ComputeDevice device;
  uint64_t available = 0;
  if (options.on == "here") {
    device = choose_device(config.train.device, config.precision.compute);
    available = usable_memory(device);
  } else {
    const PlannedGpu gpu = planned_gpu(options.on, config.precision.compute);
    device = gpu.device;
    available = gpu.memory;
  }
  std::cout << to_yaml(config) << "\ndevice: " << device.name << "\n\n";
  print_parameters(config);
  print_work(config, device, options.gpus);
  print_kept(config, device);
  if (options.gpus > 1) print_stages(config, device, options.gpus);
  print_memory(config, device, available, options.gpus);
}

}  // namespace

void add_plan_command(CLI::App& app) {
  auto* command = app.add_subcommand(
      "plan", "Parameters, arithmetic, time and memory of a run, and whether it fits; touches no GPU memory");
  auto options = std::make_shared<Options>();
  command->add_option("--config", options->config, "YAML file of the run")->required();
  command->add_option("--set", options->overrides, "Override a field: a.b=value (may be repeated)");
  command->add_option("--gpus", options->gpus, "Ranks that train together, a GPU each")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  std::vector<std::string> places = planned_gpus();
  places.insert(places.begin(), "here");
  command
      ->add_option("--on", options->on,
                   "here: the device that train would take on this machine; or a GPU that need not be there")
      ->check(CLI::IsMember(places))
      ->capture_default_str();
  command->callback([options] { plan(*options); });
}

}  // namespace transxssm
