// A folder that transformers loads: recognising one, its config.json, and everything in it but weights and
// tokenizer.
#pragma once

#include <filesystem>
#include <string>

#include "export/hf_config.h"
#include "export/tokenizer_files.h"
#include "export/weights.h"

namespace transxssm {

// Whether `path` is such a folder and not a run or a checkpoint.
bool is_exported_folder(const std::filesystem::path& path);

// Throws InputError that names config.json and the field.
ExportedConfig read_exported_config(const std::filesystem::path& folder);

// What export found when it read the folder back.
inline constexpr const char* kParityName = "parity.json";

// Hash of the SentencePiece model that the model was trained with, from parity.json or, without one, of the
// tokenizer in the folder; else empty.
std::string exported_tokenizer_hash(const std::filesystem::path& folder);

// config.json, generation_config.json, and the Python files that this model or its tokenizer needs.
void write_config_files(const std::filesystem::path& folder, const ModelConfig& config,
                        const ExportDetails& details, bool own_tokenizer);

}  // namespace transxssm
