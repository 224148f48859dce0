#include "cli/bench_gemm.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <iostream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/device_timer.h"
#include "bench/gemm_work.h"
#include "cli/table.h"
#include "config/load.h"
#include "core/atomic_file.h"
#include "core/check.h"
#include "core/clock.h"
#include "core/version.h"

namespace transxssm {
namespace {

using bench::GemmTiming;
using kernels::GemmKind;
using kernels::GemmShape;
using Json = nlohmann::ordered_json;

struct Options {
  std::vector<std::string> configs;
  std::vector<std::string> shapes;  // "rows,in,out"
  std::string table;
  int repeats = 20;
  bool json = false;
};

const char* const kKinds[] = {"forward", "input gradient", "weight gradient"};

// Each product once, those of the named configurations first.
std::vector<GemmShape> shapes_of(const Options& options) {
  std::vector<GemmShape> shapes;
  std::set<GemmShape> seen;
  const auto add = [&](const GemmShape& shape) {
    if (seen.insert(shape).second) shapes.push_back(shape);
  };
  for (const std::string& file : options.configs) {
    const RunConfig config = load_config(file);
    for (const GemmShape& s :
         bench::gemm_shapes(config.model, config.train.micro_batch_size * config.train.seq_len))
      add(s);
  }
  for (const std::string& text : options.shapes) {
    GemmShape s;
    int length = 0;
    const int read =
        std::sscanf(text.c_str(), "%" SCNd64 ",%" SCNd64 ",%" SCNd64 "%n", &s.rows, &s.in, &s.out, &length);
    expect_input(
        read == 3 && static_cast<size_t>(length) == text.size() && std::min({s.rows, s.in, s.out}) > 0,
        concat("--shape ", text, ": expected rows,in,out, positive numbers with commas between"));
    for (const auto kind : {GemmKind::forward, GemmKind::input_gradient, GemmKind::weight_gradient})
      add({kind, s.rows, s.in, s.out});
  }
  expect_input(!shapes.empty(), "bench gemm: name a configuration (--config) or a product (--shape)");
  return shapes;
}

std::string tflops(const GemmShape& shape, double ms) {
  char text[32];
  std::snprintf(text, sizeof text, "%.0f", bench::gemm_flops(shape) / ms * 1e-9);
  return text;
}

std::string fixed(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", value);
  return text;
}

void print(const std::vector<GemmTiming>& timings, const std::string& gpu, bool searched) {
  std::cout << gpu << ", " << utc_time() << ", commit " << kCommit
            << "; TFLOP/s of cuBLASLt's first proposal, of what "
            << "the program chooses" << (searched ? ", of the best found" : "") << '\n';
  std::vector<Row> rows = {{"rows", "in", "out", "product", "first", "chosen", "ms"}};
  if (searched) rows.front().insert(rows.front().end() - 1, "best");
  double first = 0, chosen = 0, best = 0;
  for (const GemmTiming& t : timings) {
    const GemmShape& s = t.shape;
    Row row = {std::to_string(s.rows), std::to_string(s.in),
               std::to_string(s.out),  kKinds[static_cast<size_t>(s.kind)],
               tflops(s, t.first_ms),  tflops(s, t.chosen_ms)};
    if (searched) row.push_back(tflops(s, t.best_ms));
    row.push_back(fixed(searched ? t.best_ms : t.chosen_ms));
    rows.push_back(std::move(row));
    first += t.first_ms;
    chosen += t.chosen_ms;
    best += t.best_ms;
  }
  print_table(rows);
  std::cout << "all together: first " << fixed(first) << " ms, chosen " << fixed(chosen) << " ms";
  if (searched) std::cout << ", best " << fixed(best) << " ms";
  std::cout << '\n';
}

Json to_json(const std::vector<GemmTiming>& timings, const std::string& gpu, bool searched) {
  Json out = {{"machine", gpu}, {"date", utc_time()}, {"commit", kCommit}, {"op", "gemm"}};
  for (const GemmTiming& t : timings) {
    Json row = {{"rows", t.shape.rows},
                {"in", t.shape.in},
                {"out", t.shape.out},
                {"product", kKinds[static_cast<size_t>(t.shape.kind)]},
                {"flops", bench::gemm_flops(t.shape)},
                {"first_ms", t.first_ms},
                {"chosen_ms", t.chosen_ms}};
    if (searched) row["best_ms"] = t.best_ms;
    out["results"].push_back(row);
  }
  return out;
}

void bench_gemm(const Options& options) {
  const auto shapes = shapes_of(options);
  const std::string gpu = bench::find_gpu();
  const bool search = !options.table.empty();
  std::vector<GemmTiming> timings;
  for (const GemmShape& shape : shapes)
    timings.push_back(search ? bench::search_gemm(shape, options.repeats)
                             : bench::time_gemm(shape, options.repeats));
  if (search) write_file_atomically(options.table, bench::gemm_table_text(timings, gpu));
  if (options.json)
    std::cout << to_json(timings, gpu, search).dump(2) << '\n';
  else
    print(timings, gpu, search);
}

}  // namespace

void add_bench_gemm(CLI::App& bench) {
  const auto options = std::make_shared<Options>();
  CLI::App* verb = bench.add_subcommand(
      "gemm", "Matrix products of a training step in bf16: cuBLASLt's first proposal against the chosen one");
  verb->add_option("--config", options->configs, "Configurations whose products are timed, each once")
      ->check(CLI::ExistingFile);
  verb->add_option("--shape", options->shapes, "rows,in,out of a further product; may be repeated")
      ->allow_extra_args(false);
  verb->add_option("--search", options->table,
                   "Time all proposals and write the best to this file; src/ops/gemm_table.h is such a file");
  verb->add_option("--repeats", options->repeats, "Timed runs, of which the median counts")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  verb->add_flag("--json", options->json, "Print one JSON object");
  verb->callback([options] { bench_gemm(*options); });
}

}  // namespace transxssm
