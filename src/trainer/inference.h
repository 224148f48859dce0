// A trained model read back: configuration, weights and tokenizer of a run, a step or an exported folder.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "config/run_config.h"
#include "data/tokenizer.h"
#include "model/hybrid_model.h"
#include "optim/flat_parameters.h"
#include "trainer/device.h"

namespace transxssm {

// The copy of the tokenizer in a run folder: a SentencePiece model, or a folder with somebody else's files.
inline constexpr const char* kRunTokenizerName = "tokenizer.model";
inline constexpr const char* kRunForeignTokenizerName = "tokenizer";

struct InferenceModel {
  RunConfig config;
  int64_t step = 0;
  std::string tokenizer_hash;  // of the run's; empty where that is not known
  ComputeDevice device;
  std::unique_ptr<FlatParameters> parameters;  // compute weights only
  std::unique_ptr<HybridModel> model;

  // Makes `model` anew from configuration and parameters; its rotary table reaches `max_positions`.
  void bind(int64_t max_positions);
};

// Where the weights lie that `path` names, a run folder, a step folder or an exported folder: the step
// folder, or the exported folder itself. Throws InputError.
std::filesystem::path weights_folder(const std::filesystem::path& path);

// Of such a path. The rotary table reaches `max_positions`.
InferenceModel load_for_inference(const std::filesystem::path& path, Device device, int64_t max_positions);

// Weights only, one tensor at a time, into parameters made for `model`. Throws InputError when they are
// another model's.
void load_weights(const std::filesystem::path& step_or_exported, const ModelConfig& model,
                  FlatParameters& parameters);

// The SentencePiece model that belongs to `path`: `given`, or the one in the folder `given`, if not empty;
// else the copy in the run folder or exported folder, else the configured path.
std::filesystem::path find_tokenizer(const std::filesystem::path& path, const std::string& given);

// The folder with somebody else's tokenizer that belongs to `path`: `given` if it is one without a tokenizer
// of ours; where nothing is given, the exported folder itself or the copy in the run folder.
std::optional<std::filesystem::path> find_foreign_tokenizer(const std::filesystem::path& path,
                                                            const std::string& given);

// Puts what those two would find by themselves into the run folder `run`: the SentencePiece model, or
// somebody else's files. `step_or_exported` may have none.
void copy_tokenizer(const std::filesystem::path& step_or_exported, const std::filesystem::path& run);

// Of the tokenizer that the weights were trained with; empty where that is not known.
std::string trained_tokenizer_hash(const std::filesystem::path& step_or_exported);

// Throws InputError when the model was trained with another tokenizer, as far as that can be known: by hash
// for a run's, by EOS otherwise.
void check_tokenizer(const Tokenizer& tokenizer, const InferenceModel& model);

}  // namespace transxssm
