#include "cli/bench_inference.h"

#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/inference.h"
#include "cli/command_line.h"
#include "cli/table.h"
#include "config/load.h"
#include "core/atomic_file.h"
#include "core/check.h"
#include "core/clock.h"
#include "core/version.h"
#include "trainer/inference.h"
#include "trainer/paths.h"

namespace transxssm {
namespace {

using bench::InferenceTiming;
using Json = nlohmann::ordered_json;

struct Options {
  bool decode = false;
  std::string config, checkpoint;
  std::vector<std::string> overrides;
  std::string device = "auto";
  bench::InferenceShape shape;
  bool json = false;
};

std::string fixed(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

InferenceModel open_model(const Options& options) {
  const Device device = device_named(options.device);
  if (!options.checkpoint.empty()) return load_for_inference(options.checkpoint, device, /*max_positions=*/1);
  return bench::untrained_model(load_config(options.config, options.overrides), device);
}

double tokens_of(const Options& options) {
  const auto rows = static_cast<double>(options.shape.batch);
  return options.decode ? rows : rows * static_cast<double>(options.shape.context);
}

double per_second(double amount, const InferenceTiming& t) { return 1e3 * amount / t.time.median_ms; }

// Of what the device's data sheet allows: bandwidth when decoding, FLOP/s in prefill. 0 where unknown.
double share_of_bound(const Options& options, const ComputeDevice& device, const InferenceTiming& t) {
  const double bound = options.decode ? device.memory_bandwidth : device.peak_flops;
  return bound > 0 ? per_second(options.decode ? t.bytes : t.flops, t) / bound : 0;
}

std::vector<std::string> paths_of(const Options& options, const InferenceModel& model) {
  return path_lines(model.config, model.device, options.decode ? Decoding::yes : Decoding::no);
}

Json to_json(const Options& options, const InferenceModel& model, const InferenceTiming& t) {
  Json out = {{"machine", model.device.name},
              {"date", utc_time()},
              {"commit", kCommit},
              {"libtorch", kTorchVersion},
              {"cuda", kCudaVersion},
              {"cudnn", kCudnnVersion},
              {"config", to_json(model.config)},
              {"paths", paths_of(options, model)},
              {"pass", options.decode ? "decode" : "prefill"},
              {"batch", options.shape.batch},
              {"context", options.shape.context},
              {"repeats", options.shape.repeats},
              {"ms", t.time.median_ms},
              {"min_ms", t.time.min_ms},
              {"max_ms", t.time.max_ms},
              {"tokens_per_second", per_second(tokens_of(options), t)},
              {"memory_peak_bytes", t.memory_peak}};
  const double share = share_of_bound(options, model.device, t);
  if (options.decode) {
    out["bytes"] = t.bytes;
    out["gb_per_second"] = per_second(t.bytes, t) * 1e-9;
    out["share_of_bandwidth"] = share > 0 ? Json(share) : Json();
  } else {
    out["tflops"] = per_second(t.flops, t) * 1e-12;
    out["mfu"] = share > 0 ? Json(share) : Json();
  }
  if (t.by_part) {
    for (const auto part : bench::kStepParts)
      out["parts_ms"][bench::name_of(part)] = t.by_part->ms[static_cast<size_t>(part)];
    out["idle_ms"] = t.by_part->span_ms - t.by_part->busy_ms;
  }
  return out;
}

void print_report(const Options& options, const InferenceModel& model, const InferenceTiming& t) {
  std::cout << model.device.name << ", " << utc_time() << ", commit " << kCommit << '\n';
  for (const std::string& line : paths_of(options, model)) std::cout << line << '\n';
  const double share = share_of_bound(options, model.device, t);
  print_table(
      {{"pass", "batch", "context", "ms", "min", "max", "tokens/s", options.decode ? "GB/s" : "TFLOP/s",
        options.decode ? "of bandwidth" : "MFU", "memory"},
       {options.decode ? "decode" : "prefill", std::to_string(options.shape.batch),
        std::to_string(options.shape.context), fixed(t.time.median_ms, 3), fixed(t.time.min_ms, 3),
        fixed(t.time.max_ms, 3), fixed(per_second(tokens_of(options), t), 0),
        options.decode ? fixed(per_second(t.bytes, t) * 1e-9, 1) : fixed(per_second(t.flops, t) * 1e-12, 1),
        share > 0 ? fixed(100 * share, 1) + " %" : "-", format_bytes(t.memory_peak)}});
  if (!t.by_part) return;
  std::vector<Row> rows = {{"", ""}, {"part", "ms"}};
  for (const auto part : bench::kStepParts) {
    const double ms = t.by_part->ms[static_cast<size_t>(part)];
    if (ms > 0) rows.push_back({bench::name_of(part), fixed(ms, 3)});
  }
  rows.push_back({"idle", fixed(t.by_part->span_ms - t.by_part->busy_ms, 3)});
  print_table(rows);
}

void bench_inference(const Options& options) {
  expect_input(options.config.empty() != options.checkpoint.empty(),
               "bench: needs one of --config and --checkpoint");
  InferenceModel model = open_model(options);
  const InferenceTiming timing =
      options.decode ? bench::time_decode(model, options.shape) : bench::time_prefill(model, options.shape);
  if (options.json)
    std::cout << to_json(options, model, timing).dump(2) << '\n';
  else
    print_report(options, model, timing);
}

void add_command(CLI::App& bench, bool decode) {
  const auto options = std::make_shared<Options>();
  options->decode = decode;
  options->shape = decode ? bench::InferenceShape{32, 4096, 50} : bench::InferenceShape{4, 4096, 10};
  CLI::App* command =
      decode ? bench.add_subcommand("decode",
                                    "One token of every row behind prompts, against the memory bandwidth")
             : bench.add_subcommand("prefill", "Prompts in one pass, logits of their last tokens");
  command->add_option("--config", options->config, "YAML file of a run, whose model is timed untrained");
  command->add_option("--checkpoint", options->checkpoint, "Run folder, step folder or exported folder");
  command->add_option("--set", options->overrides, "Override a field of --config (may be repeated)");
  command->add_option("--batch", options->shape.batch, "Rows")
      ->check(CLI::Range(int64_t{1}, int64_t{65535}))
      ->capture_default_str();
  command->add_option("--context", options->shape.context, "Tokens of each prompt")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24))
      ->capture_default_str();
  command->add_option("--repeats", options->shape.repeats, "Timed runs, of which the median counts")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  add_device_option(*command, options->device);
  command->add_flag("--json", options->json, "Print one JSON object");
  command->callback([options] { bench_inference(*options); });
}

}  // namespace

void add_bench_inference_commands(CLI::App& bench) {
  add_command(bench, /*decode=*/false);
  add_command(bench, /*decode=*/true);
}

}  // namespace transxssm
