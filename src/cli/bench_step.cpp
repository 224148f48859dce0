#include "cli/bench_step.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/train_step.h"
#include "cli/ranks.h"
#include "cli/table.h"
#include "config/load.h"
#include "core/atomic_file.h"
#include "core/clock.h"
#include "core/counted.h"
#include "core/logging.h"
#include "core/version.h"
#include "parallel/mesh.h"
#include "trainer/paths.h"

namespace transxssm {
namespace {

using bench::StepReport;
using bench::StepTiming;
using Json = nlohmann::ordered_json;

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  RankOptions ranks;
  int repeats = 30;
  bool json = false;
};

std::string fixed(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

double per_second(double amount, const StepTiming& timing) { return 1e3 * amount / timing.time.median_ms; }

double idle_ms(const bench::StepTime& time) { return time.span_ms - time.busy_ms; }

const char* kind_of(size_t timing) { return timing == 0 ? "one document a window" : "isolated documents"; }

Json to_json(const StepReport& report, const RunConfig& config, int repeats) {
  Json out = {{"machine", report.device.name},
              {"date", utc_time()},
              {"commit", kCommit},
              {"libtorch", kTorchVersion},
              {"cuda", kCudaVersion},
              {"cudnn", kCudnnVersion},
              {"config", to_json(config)},
              {"paths", path_lines(config, report.device, Decoding::no)},
              {"repeats", repeats},
              {"ranks", report.ranks},
              {"tokens", report.tokens},
              {"start_up_seconds", report.start_up_seconds},
              {"memory_peak_bytes", report.memory_peak},
              {"memory_held_bytes", report.memory_held},
              {"memory_expected_bytes", report.memory_expected}};
  for (size_t i = 0; i < report.timings.size(); ++i) {
    const StepTiming& t = report.timings[i];
    Json row = {{"batch", kind_of(i)},
                {"documents", t.documents},
                {"ms", t.time.median_ms},
                {"min_ms", t.time.min_ms},
                {"max_ms", t.time.max_ms},
                {"tokens_per_second", per_second(static_cast<double>(report.tokens), t)},
                {"tflops_per_gpu", per_second(t.flops, t) * 1e-12},
                {"communication_ms", t.communication_ms},
                {"exposed_communication_ms", t.exposed_ms}};
    const double peak = report.device.peak_flops;
    row["mfu"] = peak > 0 ? Json(per_second(t.flops, t) / peak) : Json();
    if (t.by_part) {
      for (const auto part : bench::kStepParts)
        row["parts_ms"][bench::name_of(part)] = t.by_part->ms[static_cast<size_t>(part)];
      row["idle_ms"] = idle_ms(*t.by_part);
      row["idle_share"] = idle_ms(*t.by_part) / t.by_part->span_ms;
    }
    out["results"].push_back(row);
  }
  return out;
}

void print_parts(const StepReport& report) {
  std::vector<Row> rows = {{"", ""}, {"ms of a step", ""}};
  for (size_t i = 0; i < report.timings.size(); ++i) rows[1].push_back(kind_of(i));
  rows[1].erase(rows[1].begin() + 1);
  rows[0].resize(rows[1].size());
  const auto add = [&](const std::string& name, const auto& ms_of) {
    Row row{name};
    for (const StepTiming& t : report.timings)
      row.push_back(concat(fixed(ms_of(*t.by_part), 2), "  ",
                           fixed(100 * ms_of(*t.by_part) / t.by_part->span_ms, 1), " %"));
    rows.push_back(row);
  };
  for (const auto part : bench::kStepParts)
    add(bench::name_of(part), [&](const bench::StepTime& t) { return t.ms[static_cast<size_t>(part)]; });
  add("idle", idle_ms);
  print_table(rows);
}

void print_report(const StepReport& report, const RunConfig& config) {
  std::cout << report.device.name << ", " << utc_time() << ", commit " << kCommit << ", "
            << counted(report.tokens, "token") << " a step, one update a micro-batch"
            << (report.ranks > 1 ? concat(", ", report.ranks, " ranks; figures of the first") : "") << "\n";
  for (const std::string& line : path_lines(config, report.device, Decoding::no)) std::cout << line << '\n';
  std::vector<Row> rows = {{"", "documents", "ms", "min", "max", "tokens/s", "TFLOP/s", "MFU"}};
  const double peak = report.device.peak_flops;
  for (size_t i = 0; i < report.timings.size(); ++i) {
    const StepTiming& t = report.timings[i];
    rows.push_back({kind_of(i), std::to_string(t.documents), fixed(t.time.median_ms, 2),
                    fixed(t.time.min_ms, 2), fixed(t.time.max_ms, 2),
                    fixed(per_second(static_cast<double>(report.tokens), t), 0),
                    fixed(per_second(t.flops, t) * 1e-12, peak > 0 ? 1 : 4),
                    peak > 0 ? fixed(100 * per_second(t.flops, t) / peak, 1) + " %" : "-"});
  }
  print_table(rows);
  if (report.ranks > 1)
    for (size_t i = 0; i < report.timings.size(); ++i)
      std::cout << kind_of(i) << ": collectives ran for " << fixed(report.timings[i].communication_ms, 2)
                << " ms of a step, work waited for them for " << fixed(report.timings[i].exposed_ms, 2)
                << " ms\n";
  if (report.timings.front().by_part) print_parts(report);
  std::cout << "\nmemory: " << format_bytes(report.memory_peak) << " at the peak ("
            << format_bytes(report.memory_held) << " held by the allocator), "
            << format_bytes(report.memory_expected)
            << " expected; start-up: " << fixed(report.start_up_seconds, 2)
            << " s from launch to the first step at full speed\n";
}

std::vector<std::string> rank_arguments(const Options& options) {
  std::vector<std::string> arguments{"bench",        "step",      "--config",
                                     options.config, "--repeats", std::to_string(options.repeats)};
  for (const std::string& field : options.overrides) arguments.insert(arguments.end(), {"--set", field});
  arguments.insert(arguments.end(),
                   {"--set", options.ranks.gpus > 0 ? "train.device=cuda" : "train.device=cpu"});
  if (options.json) arguments.push_back("--json");
  return arguments;
}

void bench_here(const Options& options, const RunConfig& config) {
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);  // as in training
  Mesh mesh = Mesh::single();
  if (const auto environment = rank_environment(environment_variables())) {
    if (config.train.device != Device::cpu) take_own_gpu(*environment);
    mesh = Mesh::join(*environment, std::chrono::seconds(config.parallel.timeout_seconds));
    if (!mesh.is_first()) log_errors_only();
  }
  const StepReport report = bench::time_train_step(config, options.repeats, mesh);
  if (!mesh.is_first()) return;
  if (options.json)
    std::cout << to_json(report, config, options.repeats).dump(2) << '\n';
  else
    print_report(report, config);
}

}  // namespace

void add_bench_step_command(CLI::App& bench, int& exit_code) {
  const auto options = std::make_shared<Options>();
  CLI::App* step = bench.add_subcommand(
      "step", "A training step on random tokens: speed, memory, start-up, and where its time goes");
  step->add_option("--config", options->config, "YAML file of the run")->required();
  step->add_option("--set", options->overrides,
                   "Override a field, such as train.micro_batch_size=4 (may be repeated)");
  add_rank_options(*step, options->ranks, "Measure");
  step->add_option("--repeats", options->repeats, "Timed steps, of which the median counts")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  step->add_flag("--json", options->json, "Print one JSON object");
  step->callback([options, &exit_code] {
    const RunConfig config = load_config(options->config, options->overrides);
    if (options->ranks.given())
      exit_code = start_ranks(options->ranks, config.train.device, rank_arguments(*options), 0);
    else
      bench_here(*options, config);
  });
}

}  // namespace transxssm
