#include "cli/bench.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/attention_work.h"
#include "bench/device_timer.h"
#include "bench/ssd_work.h"
#include "bench/stream_work.h"
#include "cli/bench_comm.h"
#include "cli/bench_gemm.h"
#include "cli/bench_inference.h"
#include "cli/bench_step.h"
#include "cli/table.h"
#include "core/check.h"
#include "core/clock.h"
#include "core/counted.h"
#include "core/version.h"
#include "trainer/device.h"

namespace transxssm {
namespace {

using bench::Pass;
using bench::ScanShape;
using Json = nlohmann::ordered_json;

struct Options {
  std::string op;
  std::vector<std::string> shapes;
  bool documents = false;
  int64_t groups = 0;  // 0: as many as heads
  bool skip = false;
  bool without_rope = false;
  int repeats = 30;
  bool json = false;
};

// One operation at one shape. Bytes: what has to cross the memory bus; FLOPs and LibTorch's attention: of
// scan and attention only.
struct Figure {
  Json shape;
  std::string pass;
  bench::Timing timing;
  double bytes = 0;
  double flops = 0;
  bool limited_by_flops = false;  // rather than by bytes
  std::optional<double> attention_ms;
};

// The positive integers of "8,4096,16"; `names` says which.
std::vector<int64_t> parse_shape(const std::string& text, size_t count, const std::string& names) {
  std::vector<int64_t> numbers;
  const char* at = text.data();
  const char* const end = at + text.size();
  for (bool more = true; more;) {
    int64_t number = 0;
    const auto [stop, error] = std::from_chars(at, end, number);
    if (error != std::errc() || number < 1 || number > (int64_t{1} << 24)) break;
    numbers.push_back(number);
    more = stop != end && *stop == ',';
    at = more ? stop + 1 : stop;
  }
  expect_input(at == end && numbers.size() == count,
               concat("--shape ", text, ": expected ", names, ", positive numbers with commas between"));
  return numbers;
}

std::vector<ScanShape> scan_shapes(const Options& options) {
  std::vector<ScanShape> shapes;
  if (options.shapes.empty()) shapes = {{8, 4096, 8}, {8, 4096, 16}, {1, 32768, 16}, {2, 16384, 8}};
  for (const std::string& text : options.shapes) {
    const auto n = parse_shape(text, 3, "batch,tokens,heads");
    expect_input(n[0] * n[1] < int64_t{1} << 31, concat("--shape ", text, ": has 2^31 tokens or more"));
    shapes.push_back({n[0], n[1], n[2]});
  }
  for (ScanShape& shape : shapes) shape.documents = options.documents;
  if (options.shapes.empty() && !options.documents) {
    shapes.push_back(shapes.front());
    shapes.back().documents = true;
  }
  for (ScanShape& shape : shapes) {
    shape.groups = options.groups > 0 ? options.groups : shape.heads;
    shape.skip = options.skip;
    shape.rope = !options.without_rope;
    expect_input(shape.heads % shape.groups == 0,
                 concat("--groups ", shape.groups, ": does not divide ", shape.heads, " heads"));
  }
  return shapes;
}

void expect_scan_options_unused(const Options& options) {
  expect_input(options.groups == 0 && !options.skip && !options.without_rope,
               concat("--groups, --skip and --no-rope have no effect on ", options.op));
}

std::vector<Figure> scan_figures(const std::vector<ScanShape>& shapes, int repeats) {
  std::map<std::tuple<int64_t, int64_t, int64_t, Pass>, double> attention_ms;
  std::vector<Figure> figures;
  for (const ScanShape& s : shapes)
    for (const Pass pass : {Pass::forward, Pass::both}) {
      Figure figure;
      figure.shape = {{"batch", s.batch}, {"tokens", s.tokens}, {"heads", s.heads}};
      figure.shape["groups"] = s.groups;
      figure.shape["skip"] = s.skip;
      figure.shape["rope"] = s.rope;
      figure.shape["documents"] = bench::document_count(s);
      figure.pass = pass == Pass::forward ? "forward" : "both";
      figure.bytes = bench::ssd_bytes(s, pass);
      figure.flops = bench::ssd_flops(s, pass);
      figure.timing = bench::time_on_device(bench::ssd_work(s, pass), repeats);
      auto& yardstick = attention_ms[{s.batch, s.tokens, s.heads, pass}];
      if (yardstick == 0)
        yardstick = bench::time_on_device(bench::cudnn_attention_work(
                                              {s.batch, s.tokens, s.heads, s.heads, bench::kWidth}, pass),
                                          repeats)
                        .median_ms;
      figure.attention_ms = yardstick;
      figures.push_back(figure);
    }
  return figures;
}

std::vector<bench::AttentionShape> attention_shapes(const Options& options) {
  std::vector<bench::AttentionShape> shapes;
  if (options.shapes.empty()) {
    shapes = {{8, 4096, 8, 8, 128},  {8, 4096, 16, 16, 128}, {4, 4096, 16, 16, 128},
              {2, 16384, 8, 8, 128}, {8, 4096, 8, 2, 128},   {8, 4096, 16, 16, 64}};
    if (!options.documents) shapes.push_back({8, 4096, 8, 8, 128, /*documents=*/true});
  }
  for (const std::string& text : options.shapes) {
    const auto n = parse_shape(text, 5, "batch,tokens,heads,key heads,width");
    expect_input(n[2] % n[3] == 0 && (n[4] == 64 || n[4] == 128),
                 concat("--shape ", text, ": expected key heads that divide the heads, and width 64 or 128"));
    expect_input(n[0] * n[1] * (n[2] + 2 * n[3]) * n[4] < int64_t{1} << 31,
                 concat("--shape ", text, ": has 2^31 values or more"));
    shapes.push_back({n[0], n[1], n[2], n[3], n[4]});
  }
  if (options.documents)
    for (bench::AttentionShape& shape : shapes) shape.documents = true;
  return shapes;
}

std::vector<Figure> attention_figures(const std::vector<bench::AttentionShape>& shapes, int repeats) {
  std::vector<Figure> figures;
  for (const bench::AttentionShape& s : shapes) {
    Figure figure;
    figure.shape = {{"batch", s.batch},       {"tokens", s.tokens}, {"heads", s.heads},
                    {"kv_heads", s.kv_heads}, {"width", s.width},   {"documents", bench::document_count(s)}};
    figure.limited_by_flops = true;
    const auto time = [&](const char* pass_name, const bench::Workload& work) {
      figure.pass = pass_name;
      figure.timing = bench::time_on_device(work, repeats);
      figures.push_back(figure);
    };
    for (const Pass pass : {Pass::forward, Pass::both}) {
      figure.bytes = bench::attention_bytes(s, pass);
      figure.flops = bench::attention_flops(s, pass);
      figure.attention_ms = bench::time_on_device(bench::cudnn_attention_work(s, pass), repeats).median_ms;
      if (pass == Pass::forward) {
        time("forward", bench::attention_work(s, pass, true));
        continue;
      }
      time("both", bench::attention_work(s, pass, false));
      time("both, deterministic", bench::attention_work(s, pass, true));
    }
  }
  return figures;
}

std::vector<std::vector<int64_t>> step_shapes(const Options& options) {
  expect_input(!options.documents, "--documents has no effect on ssd_step: it takes one token a row");
  if (options.shapes.empty()) return {{1, 8}, {1, 16}, {8, 16}, {32, 16}, {128, 16}};
  std::vector<std::vector<int64_t>> shapes;
  for (const std::string& text : options.shapes) shapes.push_back(parse_shape(text, 2, "batch,heads"));
  return shapes;
}

std::vector<Figure> step_figures(const std::vector<std::vector<int64_t>>& shapes, int repeats) {
  std::vector<Figure> figures;
  for (const auto& shape : shapes) {
    Figure figure;
    figure.shape = {{"batch", shape[0]}, {"heads", shape[1]}};
    figure.pass = "step";
    figure.bytes = bench::ssd_step_bytes(shape[0], shape[1]);
    figure.timing = bench::time_on_device(bench::ssd_step_work(shape[0], shape[1]), repeats);
    figures.push_back(figure);
  }
  return figures;
}

std::vector<std::vector<int64_t>> stream_shapes(const Options& options) {
  expect_input(!options.documents, concat("--documents has no effect on ", options.op));
  if (options.shapes.empty() && (options.op == "adamw" || options.op == "grad_norm"))
    return {{32768, 11264}, {32768, 43008}};  // about the parameters of the 320M and 1.3B models
  if (options.shapes.empty() && options.op == "cross_entropy")  // chunks as ops::cross_entropy cuts them
    return {{8192, 32768}, {5248, 50304}, {2048, 128256}};
  if (options.shapes.empty()) return {{32768, 1024}, {32768, 2048}};
  std::string names = "tokens,width";
  if (options.op == "cross_entropy") names = "rows,vocabulary";
  if (options.op == "adamw" || options.op == "grad_norm") names = "rows,columns";
  std::vector<std::vector<int64_t>> shapes;
  for (const std::string& text : options.shapes) {
    shapes.push_back(parse_shape(text, 2, names));
    expect_input(shapes.back()[0] * shapes.back()[1] < int64_t{1} << 33,
                 concat("--shape ", text, ": has 2^33 values or more"));
  }
  return shapes;
}

std::vector<Figure> stream_figures(const std::string& op, const std::vector<std::vector<int64_t>>& shapes,
                                   int repeats) {
  std::vector<Figure> figures;
  for (const auto& shape : shapes)
    for (const bench::StreamCase& timed : bench::stream_cases(op, shape[0], shape[1])) {
      Figure figure;
      figure.shape = {{"tokens", shape[0]}, {"width", shape[1]}};
      figure.pass = timed.pass;
      figure.bytes = timed.bytes;
      figure.timing = bench::time_on_device(timed.work, repeats);
      figures.push_back(figure);
    }
  return figures;
}

struct Report {
  std::string gpu;
  std::string path;  // of the scan or of attention
  double copy_bytes_per_second = 0;
  double peak_flops = 0;  // 0 where unknown
  std::vector<Figure> figures;
};

// By copies' bandwidth; where arithmetic is the limit, by the data sheet's dense bf16 peak.
double floor_ms(const Report& report, const Figure& figure) {
  const double moved = 1e3 * figure.bytes / report.copy_bytes_per_second;
  if (!figure.limited_by_flops || report.peak_flops <= 0) return moved;
  return std::max(moved, 1e3 * figure.flops / report.peak_flops);
}

std::string fixed(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string shape_text(const Json& shape) {
  std::string text;
  for (const char* key : {"batch", "tokens", "heads", "kv_heads", "width"})
    if (shape.contains(key)) text += concat(text.empty() ? "" : ", ", shape.at(key).get<int64_t>());
  if (shape.contains("groups") && shape.at("groups") != shape.at("heads"))
    text += concat(" (", counted(shape.at("groups").get<int64_t>(), "group"), ")");
  if (shape.value("skip", false)) text += " + D";
  if (!shape.value("rope", true)) text += ", no rope";
  return text;
}

void print_report(const Report& report) {
  std::cout << report.gpu << ", " << utc_time() << ", commit " << kCommit << ", copies at "
            << fixed(report.copy_bytes_per_second * 1e-12, 2) << " TB/s\n";
  if (!report.path.empty()) std::cout << "path: " << report.path << '\n';
  std::vector<Row> rows = {{"shape", "docs", "pass", "ms", "min", "max", "TB/s", "TFLOP/s", "of floor",
                            "attention ms", "ratio", "graph ms", "host ms"}};
  bool launch_bound = false;
  for (const Figure& f : report.figures) {
    const bench::Timing& t = f.timing;
    const bool scan = f.attention_ms.has_value();
    launch_bound |= t.host_ms > t.median_ms;
    rows.push_back(
        {shape_text(f.shape), scan ? f.shape.at("documents").dump() : "-", f.pass, fixed(t.median_ms, 4),
         fixed(t.min_ms, 4), fixed(t.max_ms, 4), fixed(f.bytes / t.median_ms * 1e-9, 2),
         scan ? fixed(f.flops / t.median_ms * 1e-9, 0) : "-",
         fixed(100 * floor_ms(report, f) / t.median_ms, 1) + " %", scan ? fixed(*f.attention_ms, 3) : "-",
         scan ? fixed(*f.attention_ms / t.median_ms, 2) : "-", t.graph_ms ? fixed(*t.graph_ms, 4) : "-",
         fixed(t.host_ms, 4) + (t.host_ms > t.median_ms ? " *" : "")});
  }
  print_table(rows);
  if (launch_bound)
    std::cout << "* the host takes longer to queue it than the GPU to run it: use a CUDA graph\n";
}

Json to_json(const Report& report, const Options& options) {
  Json out = {{"machine", report.gpu},
              {"date", utc_time()},
              {"commit", kCommit},
              {"libtorch", kTorchVersion},
              {"cuda", kCudaVersion},
              {"cudnn", kCudnnVersion},
              {"op", options.op},
              {"repeats", options.repeats},
              {"copy_tb_per_s", report.copy_bytes_per_second * 1e-12}};
  if (!report.path.empty()) out["path"] = report.path;
  for (const Figure& f : report.figures) {
    Json row = f.shape;
    row["pass"] = f.pass;
    row["ms"] = f.timing.median_ms;
    row["min_ms"] = f.timing.min_ms;
    row["max_ms"] = f.timing.max_ms;
    row["host_ms"] = f.timing.host_ms;
    row["graph_ms"] = f.timing.graph_ms ? Json(*f.timing.graph_ms) : Json();
    row["tb_per_s"] = f.bytes / f.timing.median_ms * 1e-9;
    row["floor_ms"] = floor_ms(report, f);
    row["share_of_floor"] = floor_ms(report, f) / f.timing.median_ms;
    if (f.attention_ms) {
      row["tflop_per_s"] = f.flops / f.timing.median_ms * 1e-9;
      row["attention_ms"] = *f.attention_ms;
      row["ratio_to_attention"] = *f.attention_ms / f.timing.median_ms;
    }
    out["results"].push_back(row);
  }
  return out;
}

// What to measure, once the arguments are known to be good.
std::function<std::vector<Figure>()> plan(const Options& options) {
  const int repeats = options.repeats;
  if (options.op != "ssd") expect_scan_options_unused(options);
  if (options.op == "ssd")
    return [shapes = scan_shapes(options), repeats] { return scan_figures(shapes, repeats); };
  if (options.op == "attention")
    return [shapes = attention_shapes(options), repeats] { return attention_figures(shapes, repeats); };
  if (options.op == "ssd_step")
    return [shapes = step_shapes(options), repeats] { return step_figures(shapes, repeats); };
  return [op = options.op, shapes = stream_shapes(options), repeats] {
    return stream_figures(op, shapes, repeats);
  };
}

void bench_ops(const Options& options) {
  const auto measure = plan(options);
  Report report;
  report.gpu = bench::find_gpu();
  if (options.op == "ssd") report.path = bench::ssd_path();
  if (options.op == "ssd_step") report.path = bench::ssd_step_path();
  if (options.op == "attention") report.path = bench::attention_path(/*deterministic=*/false);
  report.peak_flops = choose_device(Device::cuda, ComputeDtype::bf16).peak_flops;
  report.copy_bytes_per_second = bench::copy_bytes_per_second(options.repeats);
  report.figures = measure();
  if (options.json)
    std::cout << to_json(report, options).dump(2) << '\n';
  else
    print_report(report);
}

}  // namespace

void add_bench_command(CLI::App& app, int& exit_code) {
  CLI::App* verb = app.add_subcommand(
      "bench", "Time training steps, generation, or single operators on a GPU, and communication");
  verb->require_subcommand(1);
  add_bench_step_command(*verb, exit_code);
  const auto options = std::make_shared<Options>();
  CLI::App* ops = verb->add_subcommand(
      "ops", "An operator against the memory bandwidth of the GPU, and against cuDNN attention");
  std::vector<std::string> names = bench::stream_ops();
  names.insert(names.begin(), {"ssd", "ssd_step", "attention"});
  ops->add_option(
         "--op", options->op,
         "ssd: the scan; ssd_step: one decoded token; attention: with the rotation; others: what mostly "
         "moves memory")
      ->required()
      ->check(CLI::IsMember(names));
  ops->add_option(
         "--shape", options->shapes,
         "ssd: batch,tokens,heads; ssd_step: batch,heads; attention: batch,tokens,heads,key heads,width; "
         "cross_entropy: rows,vocabulary; adamw, grad_norm: rows,columns "
         "(their product counts); others: tokens,width; may be repeated; default: shapes of the 320M and "
         "1.3B models")
      ->allow_extra_args(false);
  ops->add_flag("--documents", options->documents,
                "Fill rows with documents of median 606 tokens (default: one document a row)");
  ops->add_option("--groups", options->groups,
                  "ssd: groups of heads that share B and C (default: as many as heads)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  ops->add_flag("--skip", options->skip, "ssd: with the skip D");
  ops->add_flag("--no-rope", options->without_rope, "ssd: without the rotary embedding");
  ops->add_option("--repeats", options->repeats, "Timed runs, of which the median counts")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  ops->add_flag("--json", options->json, "Print one JSON object");
  ops->callback([options] { bench_ops(*options); });
  add_bench_gemm(*verb);
  add_bench_comm_command(*verb, exit_code);
  add_bench_inference_commands(*verb);
}

}  // namespace transxssm
