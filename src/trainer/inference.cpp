#include "trainer/inference.h"

#include <vector>

#include <ATen/ops/isfinite.h>

#include "checkpoint/locate.h"
#include "checkpoint/reader.h"
#include "config/load.h"
#include "core/atomic_file.h"
#include "core/check.h"
#include "export/folder.h"
#include "export/foreign_tokenizer.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

// What a run that made this exported folder would have had, as far as the folder says.
RunConfig config_of(const fs::path& folder) {
  const ExportedConfig exported = read_exported_config(folder);
  RunConfig config;
  config.model = exported.model;
  config.train.seq_len = exported.details.max_positions;
  config.data.eod_id = exported.details.eos_id.value_or(-1);
  try {
    config = config_from_json(to_json(config));  // checks bounds
    validate(config.model);
  } catch (const InputError& error) {
    throw InputError(concat(folder.string(), "/config.json describes no valid model: ", error.what()));
  }
  return config;
}

}  // namespace

fs::path weights_folder(const fs::path& path) {
  return is_exported_folder(path) ? path : resolve_checkpoint(path);
}

void load_weights(const fs::path& step_or_exported, const ModelConfig& model, FlatParameters& parameters) {
  if (is_exported_folder(step_or_exported)) {
    ExportedWeights(step_or_exported, model).load(parameters);
    return;
  }
  const CheckpointReader reader(step_or_exported);
  std::vector<std::string> names;
  for (const auto& [name, record] : reader.manifest().tensors)
    if (name.starts_with("model/")) names.push_back(name);
  parameters.load_weights(names, [&](const std::string& name) {
    at::Tensor values = reader.read(name);
    expect_input(at::isfinite(values).all().item<bool>(),
                 concat(step_or_exported.string(), ": tensor ", name,
                        " holds values that are not finite: the training has diverged"));
    return values;
  });
}

InferenceModel load_for_inference(const fs::path& path, Device device, int64_t max_positions) {
  InferenceModel out;
  const fs::path from = weights_folder(path);
  if (is_exported_folder(from)) {
    out.config = config_of(from);
  } else {
    const Manifest manifest = read_manifest(from);
    out.config = config_from_json(manifest.run.at("config"));
    out.step = manifest.step;
  }
  out.tokenizer_hash = trained_tokenizer_hash(from);
  out.device = choose_device(device, out.config.precision.compute, "--device");
  out.parameters =
      std::make_unique<FlatParameters>(HybridModel::parameter_specs(out.config.model), out.device.device,
                                       out.device.dtype, ParameterUse::inference);
  load_weights(from, out.config.model, *out.parameters);
  out.bind(max_positions);
  return out;
}

void InferenceModel::bind(int64_t max_positions) {
  const ModelOptions options{.max_positions = max_positions,
                             .ssd_path = ssd_path(config.kernels),
                             .attention_path = attention_path(config.kernels)};
  model = std::make_unique<HybridModel>(config.model, parameters->table(), options);
}

fs::path find_tokenizer(const fs::path& path, const std::string& given) {
  if (!given.empty()) return fs::is_directory(given) ? fs::path(given) / kSentencePieceName : fs::path(given);
  if (is_exported_folder(path)) {
    expect_input(fs::exists(path / kSentencePieceName),
                 concat(path.string(), " has no ", kSentencePieceName,
                        ": name a SentencePiece model with --tokenizer"));
    return path / kSentencePieceName;
  }
  const auto step_folder = resolve_checkpoint(path);
  const auto run = step_folder.parent_path().parent_path();
  for (auto copy : {run / kRunTokenizerName, run / kRunForeignTokenizerName / kSentencePieceName})
    if (fs::exists(copy)) return copy;
  const auto config = config_from_json(CheckpointReader(step_folder).manifest().run.at("config"));
  expect_input(!config.data.tokenizer.empty(),
               concat("the run of ", step_folder.string(),
                      " was trained without a tokenizer: name one with --tokenizer"));
  return config.data.tokenizer;
}

std::optional<fs::path> find_foreign_tokenizer(const fs::path& path, const std::string& given) {
  if (!given.empty()) {
    const bool own = !fs::is_directory(given) ||
                     (fs::exists(fs::path(given) / kSentencePieceName) && !holds_foreign_tokenizer(given));
    return own ? std::nullopt : std::optional<fs::path>(given);
  }
  const fs::path folder = is_exported_folder(path) ? path
                                                   : resolve_checkpoint(path).parent_path().parent_path() /
                                                         kRunForeignTokenizerName;
  return holds_foreign_tokenizer(folder) ? std::optional(folder) : std::nullopt;
}

void copy_tokenizer(const fs::path& step_or_exported, const fs::path& run) {
  if (const auto foreign = find_foreign_tokenizer(step_or_exported, "")) {
    ForeignTokenizer(*foreign).copy_to(run / kRunForeignTokenizerName);
    return;
  }
  const fs::path own = is_exported_folder(step_or_exported)
                           ? step_or_exported / kSentencePieceName
                           : step_or_exported.parent_path().parent_path() / kRunTokenizerName;
  if (!fs::exists(own)) return;
  make_folders(run);
  write_file_atomically(run / kRunTokenizerName, read_file(own));
}

std::string trained_tokenizer_hash(const fs::path& step_or_exported) {
  return is_exported_folder(step_or_exported) ? exported_tokenizer_hash(step_or_exported)
                                              : read_manifest(step_or_exported).run.value("tokenizer", "");
}

void check_tokenizer(const Tokenizer& tokenizer, const InferenceModel& model) {
  expect_input(tokenizer.vocab_size() <= model.config.model.vocab_size,
               concat("the tokenizer has ", tokenizer.vocab_size(), " pieces, the model only ",
                      model.config.model.vocab_size));
  if (!model.tokenizer_hash.empty()) {
    expect_input(model.tokenizer_hash == tokenizer.hash(),
                 "the tokenizer is not the one that the model was trained with (their hashes differ)");
    return;
  }
  const int64_t eos = model.config.data.eod_id;
  expect_input(eos < 0 || eos == tokenizer.eos_id(),
               concat("the tokenizer's EOS is ", tokenizer.eos_id(), ", the model's ", eos));
}

}  // namespace transxssm
