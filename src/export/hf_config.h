// config.json and generation_config.json of an exported folder, and the network that a config.json describes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include <ATen/core/Tensor.h>

#include "config/model_config.h"

namespace transxssm {

// What a folder says beside the network.
struct ExportDetails {
  at::ScalarType dtype = at::kBFloat16;
  int64_t max_positions = 0;  // what it was trained with
  std::optional<int64_t> bos_id, eos_id, pad_id;
};

nlohmann::json hf_config(const ModelConfig& config, const ExportDetails& details);
nlohmann::json hf_generation_config(const ExportDetails& details);

struct ExportedConfig {
  ModelConfig model;
  ExportDetails details;
};

// The inverse of hf_config. Throws InputError naming the field where `config` is not what hf_config writes:
// another architecture, a missing field, a value that our network doesn't have. `file` is for the message.
ExportedConfig read_hf_config(const nlohmann::json& config, const std::string& file);

}  // namespace transxssm
