// The tokenizer in an exported folder: our SentencePiece model with a remote-code class that gives exactly
// our ids, or somebody else's tokenizer files as they are.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/tokenizer.h"

namespace transxssm {

inline constexpr const char* kSentencePieceName = "tokenizer.model";

// tokenizer.model and tokenizer_config.json.
void write_tokenizer(const std::filesystem::path& folder, const std::filesystem::path& model,
                     const Tokenizer& tokenizer);

// Copies the tokenizer files that `from` holds, unchanged. Throws InputError when it holds none.
void copy_tokenizer(const std::filesystem::path& from, const std::filesystem::path& folder);

// [{"text", "ids"}]: text that goes wrong where a tokenizer is converted, with our ids, for
// scripts/check_export.py.
nlohmann::json tokenizer_samples(const Tokenizer& tokenizer);

}  // namespace transxssm
