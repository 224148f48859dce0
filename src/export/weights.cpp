#include "export/weights.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/atomic_file.h"
#include "core/check.h"
#include "export/json_file.h"
#include "export/names.h"

namespace transxssm {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

using Views = std::map<std::string, at::Tensor>;

Views views_of(const FlatParameters& parameters) {
  Views views;
  for (const LogicalView& view : parameters.logical()) views.emplace(view.name, view.weight.detach());
  return views;
}

at::ScalarType stored_type(const ExportedTensor& tensor, at::ScalarType dtype) {
  return tensor.full_precision ? at::kFloat : dtype;
}

at::Tensor exported_values(const ExportedTensor& tensor, const Views& views, at::ScalarType dtype) {
  std::vector<at::Tensor> rows;
  for (const LogicalRows& part : tensor.rows)
    rows.push_back(views.at(part.name).narrow(0, part.begin, part.count));
  const at::Tensor joined = rows.empty() ? at::Tensor() : rows.size() == 1 ? rows[0] : at::cat(rows, 0);
  at::Tensor values = to_exported(tensor, joined).to(stored_type(tensor, dtype));
  expect_input(at::isfinite(values).all().item<bool>(),
               concat("tensor ", tensor.name, " holds values that are not finite",
                      dtype == at::kHalf ? " in fp16; try --dtype bf16" : ": the training has diverged"));
  return values.contiguous();
}

// What is read back of values that are stored as a function of them: the same within the rounding of that
// function and its inverse, an ulp each.
at::Tensor stored_again(const ExportedTensor& tensor, const at::Tensor& rows) {
  at::Tensor back = from_exported(tensor, to_exported(tensor, rows));
  const at::Tensor allowed = rows.abs().clamp_min(1) * (4 * std::numeric_limits<float>::epsilon());
  expect((back - rows).abs().le(allowed).all().item<bool>(),
         concat("tensor ", tensor.name, " is not read back as it was written; nothing was written"));
  return back;
}

uint64_t bytes_of(const ExportedTensor& tensor, at::ScalarType dtype) {
  uint64_t bytes = c10::elementSize(stored_type(tensor, dtype));
  for (const int64_t length : tensor.shape) bytes *= static_cast<uint64_t>(length);
  return bytes;
}

// In the order of the table, cut where a file would grow too large; within a file larger elements come first.
std::vector<std::vector<const ExportedTensor*>> split(const std::vector<ExportedTensor>& tensors,
                                                      at::ScalarType dtype, uint64_t max_bytes) {
  std::vector<std::vector<const ExportedTensor*>> files;
  uint64_t filled = 0;
  for (const auto& tensor : tensors) {
    const uint64_t bytes = bytes_of(tensor, dtype);
    if (files.empty() || filled + bytes > max_bytes) {
      files.emplace_back();
      filled = 0;
    }
    files.back().push_back(&tensor);
    filled += bytes;
  }
  for (auto& file : files)
    std::stable_partition(file.begin(), file.end(),
                          [](const auto* tensor) { return tensor->full_precision; });
  return files;
}

std::string file_name(size_t index, size_t count) {
  if (count == 1) return kSingle;
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

std::string format_shape(const std::vector<int64_t>& shape) { return concat(at::IntArrayRef(shape)); }

}  // namespace

void write_exported_weights(const fs::path& folder, const ModelConfig& config,
                            const FlatParameters& parameters, at::ScalarType dtype,
                            uint64_t max_shard_bytes) {
  const auto tensors = exported_tensors(config);
  const Views views = views_of(parameters);
  const auto files = split(tensors, dtype, max_shard_bytes);
  json index = {{"metadata", {{"total_size", 0}}}, {"weight_map", json::object()}};
  uint64_t total = 0;
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string name = file_name(i, files.size());
    std::vector<TensorToWrite> listed;
    for (const ExportedTensor* tensor : files[i]) {
      listed.push_back({tensor->name, stored_type(*tensor, dtype), tensor->shape,
                        [=, &views] { return exported_values(*tensor, views, dtype); }});
      index["weight_map"][tensor->name] = name;
      total += bytes_of(*tensor, dtype);
    }
    write_safetensors_as_made(folder / name, listed);
  }
  index["metadata"]["total_size"] = total;
  if (files.size() > 1) write_file_atomically(folder / kIndex, index.dump(2) + "\n");
}

void round_to_exported(const ModelConfig& config, FlatParameters& parameters, at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  const Views views = views_of(parameters);
  for (const ExportedTensor& tensor : exported_tensors(config))
    for (const LogicalRows& part : tensor.rows) {
      const at::Tensor rows = views.at(part.name).narrow(0, part.begin, part.count);
      rows.copy_(tensor.values == ExportedTensor::Values::same ? rows.to(stored_type(tensor, dtype))
                                                               : stored_again(tensor, rows));
    }
}

ExportedWeights::ExportedWeights(const fs::path& folder, const ModelConfig& config)
    : where_(folder.string()), config_(config) {
  open_files(folder);
  check();
}

void ExportedWeights::open_files(const fs::path& folder) {
  std::vector<std::string> names{kSingle};
  if (fs::exists(folder / kIndex)) {
    const json index = read_json(folder / kIndex);
    expect_input(index.is_object() && index.contains("weight_map") && index["weight_map"].is_object(),
                 concat((folder / kIndex).string(), ": has no weight_map"));
    names.clear();
    for (const auto& [tensor, file] : index["weight_map"].items()) {
      expect_input(
          file.is_string() && fs::path(file.get<std::string>()).filename() == file.get<std::string>(),
          concat((folder / kIndex).string(), ": the file of ", tensor, " is no file name"));
      if (std::find(names.begin(), names.end(), file) == names.end()) names.push_back(file);
    }
  }
  for (const std::string& name : names) {
    auto file = std::make_unique<SafetensorsFile>(folder / name);
    for (const auto& [tensor, entry] : file->entries())
      expect_input(file_of_.emplace(tensor, file.get()).second,
                   concat(where_, ": has the tensor ", tensor, " twice"));
    files_.emplace(name, std::move(file));
  }
}

void ExportedWeights::check() const {
  const auto tensors = exported_tensors(config_);
  for (const ExportedTensor& tensor : tensors) {
    const auto found = file_of_.find(tensor.name);
    expect_input(found != file_of_.end(), concat(where_, ": has no tensor ", tensor.name));
    const auto& entry = found->second->entry(tensor.name);
    expect_input(entry.shape == tensor.shape,
                 concat(where_, ": tensor ", tensor.name, " has the shape ", format_shape(entry.shape),
                        ", config.json needs ", format_shape(tensor.shape)));
    expect_input(at::isFloatingType(entry.type),
                 concat(where_, ": tensor ", tensor.name, " has the type ", entry.type));
  }
  if (file_of_.size() == tensors.size()) return;
  std::map<std::string, bool> known;
  for (const ExportedTensor& tensor : tensors) known[tensor.name] = true;
  for (const auto& [name, file] : file_of_)
    expect_input(known.count(name) > 0,
                 concat(where_, ": tensor ", name, " has no place in config.json's model"));
}

void ExportedWeights::load(FlatParameters& parameters) const {
  const at::NoGradGuard no_grad;
  const Views views = views_of(parameters);
  for (const ExportedTensor& tensor : exported_tensors(config_)) {
    const at::Tensor values = from_exported(tensor, file_of_.at(tensor.name)->read(tensor.name));
    expect_input(at::isfinite(values).all().item<bool>(),
                 concat(where_, ": tensor ", tensor.name, " holds values that are not finite"));
    int64_t row = 0;
    for (const LogicalRows& part : tensor.rows) {
      const at::Tensor to = views.at(part.name).narrow(0, part.begin, part.count);
      to.copy_(values.narrow(0, row, part.count).reshape(to.sizes()));
      row += part.count;
    }
  }
  parameters.refresh_compute();
}

}  // namespace transxssm
