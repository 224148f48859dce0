#include "cli/export.h"

#include <array>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include <ATen/ops/isfinite.h>

#include "cli/table.h"
#include "core/atomic_file.h"
#include "core/check.h"
#include "core/logging.h"
#include "core/version.h"
#include "export/folder.h"
#include "export/foreign_tokenizer.h"
#include "export/parity.h"
#include "export/staged_folder.h"
#include "trainer/inference.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

constexpr std::array<std::pair<const char*, at::ScalarType>, 3> kDtypes{
    {{"bf16", at::kBFloat16}, {"fp16", at::kHalf}, {"fp32", at::kFloat}}};

struct Options {
  std::string checkpoint;
  std::string to;
  std::string dtype = "bf16";
  std::string tokenizer;
  ParityOptions parity;
};

at::ScalarType dtype_of(const std::string& name) {
  for (const auto& [known, type] : kDtypes)
    if (name == known) return type;
  throw InputError(concat("--dtype ", name, ": expected bf16, fp16 or fp32"));
}

// What goes into the folder beside the model: a SentencePiece model of ours, or somebody else's files.
struct ExportedTokenizer {
  fs::path model;
  std::optional<Tokenizer> own;
  std::optional<ForeignTokenizer> foreign;
};

ExportedTokenizer tokenizer_of(const fs::path& checkpoint, const std::string& given) {
  ExportedTokenizer out;
  if (const auto folder = find_foreign_tokenizer(checkpoint, given)) {
    out.foreign.emplace(*folder);
    return out;
  }
  try {
    out.model = find_tokenizer(checkpoint, given);
  } catch (const InputError& error) {
    if (!given.empty()) throw;
    log_warning(concat("the folder gets no tokenizer: ", error.what()));
    return out;
  }
  out.own.emplace(out.model);
  return out;
}

ExportDetails details_of(const RunConfig& config, at::ScalarType dtype, const ExportedTokenizer& tokenizer) {
  const auto id = [](int64_t value) { return value < 0 ? std::nullopt : std::optional(value); };
  ExportDetails details{dtype, config.train.seq_len, {}, id(config.data.eod_id), {}};
  if (tokenizer.foreign) tokenizer.foreign->tell_ids(config.model.vocab_size, details);
  if (!tokenizer.own) return details;
  details.bos_id = id(tokenizer.own->bos_id());
  details.eos_id = id(tokenizer.own->eos_id());
  details.pad_id = id(tokenizer.own->pad_id());
  return details;
}

// The hash that the folder's tokenizer will be known by.
std::string tokenizer_hash(const ExportedTokenizer& tokenizer, const InferenceModel& loaded) {
  if (tokenizer.own) return tokenizer.own->hash();
  const std::string foreign = tokenizer.foreign ? tokenizer.foreign->hash() : "";
  expect_input(foreign.empty() || loaded.tokenizer_hash.empty() || foreign == loaded.tokenizer_hash,
               "the tokenizer is not the one that the model was trained with (the hashes of their "
               "SentencePiece models differ)");
  return foreign.empty() ? loaded.tokenizer_hash : foreign;
}

struct Proof {
  nlohmann::json report;                     // parity.json
  std::optional<LogitsDifference> rounding;  // what --dtype changed; nothing of the folder, so not in it
};

// Compares the folder, read back, with the checkpoint; leaves the loaded model holding the folder's weights.
Proof prove_parity(const fs::path& folder, const Options& options, at::ScalarType dtype,
                   const Tokenizer* tokenizer, InferenceModel& loaded) {
  const ModelConfig& config = loaded.config.model;
  const auto input = parity_input(config, tokenizer, tokenizer ? tokenizer->bos_id() : -1, options.parity);
  loaded.bind(input.positions_needed());
  Proof proof{{{"format", 1}, {"dtype", options.dtype}, {"program", kVersion}, {"commit", kCommit}}, {}};
  at::Tensor unrounded;
  if (dtype != at::kFloat) unrounded = parity_logits(*loaded.model, input);
  round_to_exported(config, *loaded.parameters, dtype);
  const at::Tensor reference = parity_logits(*loaded.model, input);
  if (unrounded.defined()) proof.rounding = compare_logits(unrounded, reference);
  expect_input(at::isfinite(reference).all().item<bool>(),
               concat("the model of ", options.checkpoint, " in ", options.dtype,
                      " gives logits that are not finite; nothing was written"));
  const ExportedConfig read_back = read_exported_config(folder);
  ExportedWeights(folder, read_back.model).load(*loaded.parameters);
  loaded.config.model = read_back.model;
  loaded.bind(input.positions_needed());
  const at::Tensor logits = parity_logits(*loaded.model, input);
  const auto difference = compare_logits(reference, logits);
  expect_same(difference, parity_limit(reference));
  proof.report["parity"] = to_json(difference);
  proof.report["tokenizer"] = tokenizer ? tokenizer_samples(*tokenizer) : nlohmann::json::array();
  write_parity_tensors(folder, *loaded.model, input, logits);
  return proof;
}

std::string format_number(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

void print_report(const Options& options, const InferenceModel& loaded, const nlohmann::json& config,
                  const Proof& proof) {
  std::vector<Row> rows = {{"folder", options.to},
                           {"class", config.at("architectures").at(0).get<std::string>()},
                           {"step", std::to_string(loaded.step)},
                           {"parameters", std::to_string(loaded.parameters->parameter_count())}};
  const auto add = [&](const std::string& name, const nlohmann::json& difference) {
    rows.push_back(
        {name, concat("logits differ by at most ", format_number(difference.at("max_abs")), ", KL ",
                      format_number(difference.at("kl")), ", same greedy token ",
                      format_number(100 * difference.at("greedy_agreement").get<double>()), " %")});
  };
  add("read back", proof.report.at("parity"));
  if (proof.rounding) add("rounding to " + options.dtype, to_json(*proof.rounding));
  print_table(rows);
}

void export_model(const Options& options) {
  const at::ScalarType dtype = dtype_of(options.dtype);
  StagedFolder staged(options.to);
  const fs::path from = weights_folder(options.checkpoint);
  const ExportedTokenizer tokenizer = tokenizer_of(from, options.tokenizer);
  const Tokenizer* own = tokenizer.own ? &*tokenizer.own : nullptr;
  auto loaded = load_for_inference(from, Device::cpu, 1);
  const ModelConfig config = loaded.config.model;
  if (own) check_tokenizer(*own, loaded);

  const ExportDetails details = details_of(loaded.config, dtype, tokenizer);
  if (own) write_tokenizer(staged.path(), tokenizer.model, *own);
  if (tokenizer.foreign) tokenizer.foreign->copy_to(staged.path());
  write_config_files(staged.path(), config, details, own != nullptr);
  write_exported_weights(staged.path(), config, *loaded.parameters, dtype);
  auto proof = prove_parity(staged.path(), options, dtype, own, loaded);
  proof.report["tokenizer_hash"] = tokenizer_hash(tokenizer, loaded);
  write_file_atomically(staged.path() / kParityName, proof.report.dump(2) + "\n");
  staged.put_in_place();
  print_report(options, loaded, hf_config(config, details), proof);
}

}  // namespace

void add_export_command(CLI::App& app) {
  auto* command =
      app.add_subcommand("export", "Write a model as a folder that Hugging Face transformers loads");
  auto options = std::make_shared<Options>();
  command
      ->add_option("--checkpoint", options->checkpoint,
                   "Run folder, its checkpoints folder, a step folder, `latest`, or an exported folder")
      ->required();
  command->add_option("--to", options->to, "Folder to make; whole or not there")->required();
  command
      ->add_option("--dtype", options->dtype,
                   "Of matrices and embeddings; vectors stay fp32, and fp32 is exact")
      ->check(CLI::IsMember({"bf16", "fp16", "fp32"}))
      ->capture_default_str();
  command->add_option(
      "--tokenizer", options->tokenizer,
      "SentencePiece model (default: the run's), or a folder with somebody else's tokenizer, whose files are "
      "copied unchanged");
  command
      ->add_option("--parity-prompts", options->parity.greedy_prompts,
                   "Prompts whose greedy continuation goes into the folder, for scripts/check_export.py")
      ->check(CLI::Range(int64_t{0}, int64_t{1000}))
      ->capture_default_str();
  command->add_option("--parity-tokens", options->parity.greedy_tokens, "Length of those continuations")
      ->check(CLI::Range(int64_t{0}, int64_t{1000}))
      ->capture_default_str();
  command->callback([options] { export_model(*options); });
}

}  // namespace transxssm
