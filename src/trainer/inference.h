// A trained model read back for generation: configuration, weights and tokenizer of a run or step.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "config/run_config.h"
#include "data/tokenizer.h"
#include "model/hybrid_model.h"
#include "optim/flat_parameters.h"
#include "trainer/device.h"

namespace transxssm {

// The copy of the tokenizer in a run folder.
inline constexpr const char* kRunTokenizerName = "tokenizer.model";

struct InferenceModel {
  RunConfig config;
  int64_t step = 0;
  ComputeDevice device;
  std::unique_ptr<FlatParameters> parameters;  // compute weights only
  std::unique_ptr<HybridModel> model;
};

// `checkpoint` is a run folder or a step folder. The rotary table reaches `max_positions`.
InferenceModel load_for_inference(const std::filesystem::path& checkpoint, Device device,
                                  int64_t max_positions);

// The tokenizer of a checkpoint: `given` if not empty, else the copy in its run folder, else the configured
// path.
std::filesystem::path find_tokenizer(const std::filesystem::path& checkpoint, const std::string& given);

}  // namespace transxssm
