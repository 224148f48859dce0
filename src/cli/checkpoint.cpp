#include "cli/checkpoint.h"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fnmatch.h>

#include <ATen/ops/aminmax.h>
#include <ATen/ops/std_mean.h>

#include "checkpoint/locate.h"
#include "checkpoint/reader.h"
#include "checkpoint/retention.h"
#include "cli/table.h"
#include "core/atomic_file.h"
#include "core/check.h"

namespace transxssm {
namespace {

std::string format_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

std::string format_shape(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t length : shape) text += concat(text.empty() ? "" : ", ", length);
  return "[" + text + "]";
}

std::vector<CheckpointEntry> entries_at(const std::string& path) {
  auto entries = list_checkpoints(path);
  expect_input(!entries.empty(), concat("no checkpoints in ", path,
                                        "; valid are a run folder, its checkpoints folder or a step folder"));
  return entries;
}

std::string loss_of(const Manifest& manifest) {
  const auto loss = manifest.run.find("loss");
  return loss != manifest.run.end() && loss->is_number() ? format_number(loss->get<double>()) : "-";
}

void list(const std::string& path, bool quick) {
  auto entries = entries_at(path);
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
  std::vector<Row> rows = {{"step", "saved", "size", "tensors", "loss", quick ? "manifest" : "state"}};
  for (const auto& entry : entries) {
    const std::string problem = quick ? entry.problem : damage_of(entry);
    const std::string state = problem.empty() ? "valid" : concat("damaged: ", problem);
    if (entry.manifest)
      rows.push_back({std::to_string(entry.step), entry.manifest->created,
                      format_bytes(entry.manifest->bytes), std::to_string(entry.manifest->tensors.size()),
                      loss_of(*entry.manifest), state});
    else
      rows.push_back({std::to_string(entry.step), "-", "-", "-", "-", state});
  }
  print_table(rows);
}

Row statistics(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return {"-", "-", "-", "-"};
  const at::Tensor values = tensor.to(at::kDouble);
  const auto [deviation, mean] = at::std_mean(values, /*dim=*/c10::OptionalIntArrayRef(), /*correction=*/0);
  const auto [low, high] = at::aminmax(values);
  return {format_number(mean.item<double>()), format_number(deviation.item<double>()),
          format_number(low.item<double>()), format_number(high.item<double>())};
}

void print_tensors(const CheckpointReader& reader, const std::string& pattern) {
  std::vector<Row> rows = {{"tensor", "dtype", "shape", "mean", "std", "min", "max"}};
  for (const auto& [name, record] : reader.manifest().tensors) {
    if (::fnmatch(pattern.c_str(), name.c_str(), 0) != 0) continue;
    rows.push_back({name, record.dtype, format_shape(record.shape)});
    const Row numbers = statistics(reader.read(name));
    rows.back().insert(rows.back().end(), numbers.begin(), numbers.end());
  }
  expect_input(rows.size() > 1, concat(reader.folder().string(), " has no tensor that matches '", pattern,
                                       "'; --tensor '*' shows all"));
  print_table(rows);
}

void print_summary(const CheckpointReader& reader) {
  const Manifest& manifest = reader.manifest();
  struct Sum {
    int64_t tensors = 0, elements = 0;
  };
  std::map<std::string, Sum> by_dtype;
  std::map<std::string, int64_t> by_shard;
  for (const auto& [name, record] : manifest.tensors) {
    auto& sum = by_dtype[record.dtype];
    ++sum.tensors;
    sum.elements += record.numel();
    for (const TensorPiece& piece : record.pieces) ++by_shard[piece.shard];
  }
  print_table({{"folder", reader.folder().string()},
               {"step", std::to_string(manifest.step)},
               {"saved", manifest.created},
               {"size", format_bytes(manifest.bytes)},
               {"loss", loss_of(manifest)}});
  std::vector<Row> rows = {{"", "", ""}, {"dtype", "tensors", "elements"}};
  for (const auto& [dtype, sum] : by_dtype)
    rows.push_back({dtype, std::to_string(sum.tensors), std::to_string(sum.elements)});
  print_table(rows);
  rows = {{"", ""}, {"shard", "tensors or parts of them"}};
  for (const auto& [shard, tensors] : by_shard) rows.push_back({shard, std::to_string(tensors)});
  print_table(rows);
  std::cout << "\nvalues " << manifest.values.dump(2) << "\nrun " << manifest.run.dump(2) << '\n';
}

void inspect(const std::string& path, const std::string& tensor) {
  const CheckpointReader reader(resolve_checkpoint(path));
  if (tensor.empty())
    print_summary(reader);
  else
    print_tensors(reader, tensor);
}

void verify(const std::vector<std::string>& paths) {
  int64_t damaged = 0;
  for (const std::string& path : paths)
    for (const auto& entry : entries_at(path)) {
      const std::string problem = damage_of(entry);
      damaged += !problem.empty();
      std::cout << entry.folder.string() << ": " << (problem.empty() ? "valid" : "damaged: " + problem)
                << '\n'
                << std::flush;
    }
  expect_input(damaged == 0,
               concat(damaged, damaged == 1 ? " checkpoint is damaged" : " checkpoints are damaged"));
}

// What the run itself keeps, as its newest checkpoint says.
Retention retention_of(const std::vector<CheckpointEntry>& entries) {
  const nlohmann::json run =
      entries.back().manifest ? entries.back().manifest->run : nlohmann::json::object();
  const auto field = [&](const char* name, int64_t otherwise) {
    const nlohmann::json::json_pointer where(concat("/config/checkpoint/", name));
    return run.contains(where) && run.at(where).is_number_integer() ? run.at(where).get<int64_t>()
                                                                    : otherwise;
  };
  const Retention defaults;
  return {field("keep_last", defaults.keep_last), field("keep_every", defaults.keep_every)};
}

struct PruneOptions {
  std::string path;
  int64_t keep_last = -1;  // -1 = what the run's configuration says
  int64_t keep_every = -1;
  bool dry_run = false;
};

void prune(const PruneOptions& options) {
  auto entries = entries_at(options.path);
  Retention retention = retention_of(entries);
  if (options.keep_last >= 0) retention.keep_last = options.keep_last;
  if (options.keep_every >= 0) retention.keep_every = options.keep_every;
  const RetentionPlan plan = plan_retention(std::move(entries), retention);
  uint64_t bytes = 0;
  for (const auto& entry : plan.kept) std::cout << "keep    " << entry.folder.string() << '\n';
  for (const auto& entry : plan.damaged)
    std::cout << "damaged " << entry.folder.string() << " (left as it is: " << entry.problem << ")\n";
  for (const auto& entry : plan.removed) {
    std::cout << "remove  " << entry.folder.string() << '\n' << std::flush;
    bytes += entry.manifest->bytes;
    if (!options.dry_run) remove_checkpoint(entry.folder);
  }
  std::cout << plan.removed.size() << (options.dry_run ? " would be removed, " : " removed, ")
            << format_bytes(bytes) << '\n';
}

}  // namespace

void add_checkpoint_command(CLI::App& app) {
  CLI::App* verb =
      app.add_subcommand("checkpoint", "List, inspect, verify and prune the checkpoints of a run");
  verb->require_subcommand(1);
  const char* const kWhere = "Run folder, its checkpoints folder, a step folder or `latest`";

  const auto path = std::make_shared<std::string>();
  const auto quick = std::make_shared<bool>(false);
  CLI::App* list_verb = verb->add_subcommand("list", "One line per checkpoint");
  list_verb->add_option("PATH", *path, kWhere)->required();
  list_verb->add_flag("--quick", *quick, "Read only the manifests, not the tensors");
  list_verb->callback([=] { list(*path, *quick); });

  const auto tensor = std::make_shared<std::string>();
  CLI::App* inspect_verb =
      verb->add_subcommand("inspect", "What a checkpoint holds; the newest valid one of a run");
  inspect_verb->add_option("PATH", *path, kWhere)->required();
  inspect_verb->add_option("--tensor", *tensor,
                           "Show type, shape, mean, std, min and max of a tensor; * and ? match");
  inspect_verb->callback([=] { inspect(*path, *tensor); });

  const auto paths = std::make_shared<std::vector<std::string>>();
  CLI::App* verify_verb =
      verb->add_subcommand("verify", "Check every checksum; exit code 2 when something is damaged");
  verify_verb->add_option("PATH", *paths, kWhere)->required();
  verify_verb->callback([=] { verify(*paths); });

  const auto options = std::make_shared<PruneOptions>();
  CLI::App* prune_verb = verb->add_subcommand("prune", "Remove old checkpoints by the rules of the run");
  prune_verb->add_option("PATH", options->path, "Run folder or its checkpoints folder")->required();
  prune_verb
      ->add_option("--keep-last", options->keep_last, "Valid ones to keep, newest first; default: the run's")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  prune_verb
      ->add_option("--keep-every", options->keep_every,
                   "Keep every n-th step too, 0 = none; default: the run's")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  prune_verb->add_flag("--dry-run", options->dry_run, "Only say what would be removed");
  prune_verb->callback([=] { prune(*options); });
}

}  // namespace transxssm
