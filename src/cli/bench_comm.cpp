#include "cli/bench_comm.h"

#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/collectives.h"
#include "cli/ranks.h"
#include "cli/table.h"
#include "core/atomic_file.h"
#include "core/check.h"
#include "core/clock.h"
#include "core/counted.h"
#include "core/logging.h"
#include "core/version.h"
#include "parallel/mesh.h"
#include "trainer/device.h"

namespace transxssm {
namespace {

using bench::CollectiveTiming;
using Json = nlohmann::ordered_json;

constexpr int64_t kKib = 1024, kMib = kKib * kKib;

struct Options {
  RankOptions ranks;
  std::vector<int64_t> sizes;
  int repeats = 20;
  bool json = false;
};

std::vector<std::string> rank_arguments(const Options& options) {
  std::vector<std::string> arguments{"bench", "comm", "--repeats", std::to_string(options.repeats)};
  for (const int64_t size : options.sizes)
    arguments.insert(arguments.end(), {"--size", std::to_string(size)});
  if (options.json) arguments.push_back("--json");
  return arguments;
}

// With --ranks the ranks get no GPU to see.
Device device_of(const Options& options) {
  return options.ranks.ranks > 0 ? Device::cpu : options.ranks.gpus > 0 ? Device::cuda : Device::automatic;
}

std::vector<int64_t> sizes_of(const Options& options, at::Device device) {
  if (!options.sizes.empty()) return options.sizes;
  std::vector<int64_t> sizes{4 * kKib, 64 * kKib, kMib, 4 * kMib, 16 * kMib};
  if (device.is_cuda()) sizes.insert(sizes.end(), {64 * kMib, 256 * kMib});
  return sizes;
}

void print(const std::vector<CollectiveTiming>& timings, const Options& options, const ComputeDevice& device,
           int ranks) {
  if (options.json) {
    Json out = {{"machine", device.name},    {"date", utc_time()}, {"commit", kCommit},
                {"libtorch", kTorchVersion}, {"ranks", ranks},     {"repeats", options.repeats}};
    for (const CollectiveTiming& t : timings)
      out["results"].push_back({{"collective", t.collective},
                                {"bytes", t.bytes},
                                {"ms", t.median_ms},
                                {"min_ms", t.min_ms},
                                {"max_ms", t.max_ms},
                                {"bus_bytes_per_second", t.bus_bytes_per_second}});
    std::cout << out.dump(2) << '\n';
    return;
  }
  std::cout << device.name << ", " << utc_time() << ", commit " << kCommit << ", " << counted(ranks, "rank")
            << ", f32; of the slowest rank\n";
  const auto fixed = [](double value, int digits) {
    char text[32];
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    return std::string(text);
  };
  std::vector<Row> rows = {{"collective", "size", "ms", "min", "max", "GB/s of each link"}};
  for (const CollectiveTiming& t : timings)
    rows.push_back({t.collective, format_bytes(t.bytes), fixed(t.median_ms, 3), fixed(t.min_ms, 3),
                    fixed(t.max_ms, 3), fixed(t.bus_bytes_per_second * 1e-9, 2)});
  print_table(rows);
}

void bench_here(const Options& options, const RankEnvironment& environment) {
  if (environment.rank > 0) log_errors_only();
  take_own_gpu(environment);
  Mesh mesh = Mesh::join(environment, std::chrono::minutes(2));
  const ComputeDevice device = choose_device(Device::automatic, ComputeDtype::fp32);
  mesh.expect_same("the kind of device", device.device.is_cuda() ? "a GPU" : "a CPU");
  mesh.connect(device.device);
  const auto timings =
      bench::time_collectives(mesh, device.device, sizes_of(options, device.device), options.repeats);
  if (mesh.is_first()) print(timings, options, device, mesh.size());
}

}  // namespace

void add_bench_comm_command(CLI::App& bench, int& exit_code) {
  const auto options = std::make_shared<Options>();
  CLI::App* comm = bench.add_subcommand(
      "comm", "All-reduce, reduce-scatter and all-gather of several ranks, through NCCL or Gloo, by size");
  add_rank_options(*comm, options->ranks, "Measure");
  comm->add_option("--size", options->sizes,
                   "Bytes of the tensor that is summed, divided or put together (may be repeated); default: "
                   "4 KiB to 16 MiB, on GPUs to 256 MiB")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 36))
      ->allow_extra_args(false);
  comm->add_option("--repeats", options->repeats, "Timed rows of calls, of which the median counts")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  comm->add_flag("--json", options->json, "Print one JSON object");
  comm->callback([options, &exit_code] {
    if (options->ranks.given()) {
      if (options->ranks.ranks > 0) setenv("CUDA_VISIBLE_DEVICES", "", /*overwrite=*/1);
      exit_code = start_ranks(options->ranks, device_of(*options), rank_arguments(*options), 0);
      return;
    }
    const auto environment = rank_environment(environment_variables());
    expect_input(
        environment.has_value(),
        "bench comm measures several ranks: say how many with --gpus or --ranks, or start them with a "
        "launcher such as torchrun");
    bench_here(*options, *environment);
  });
}

}  // namespace transxssm
