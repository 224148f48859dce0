// Our tokenizer in an exported folder: the SentencePiece model with a remote-code class that gives exactly
// our ids.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/tokenizer.h"

namespace transxssm {

inline constexpr const char* kSentencePieceName = "tokenizer.model";
inline constexpr const char* kOwnTokenizerClass = "TransXSSMTokenizer";  // hf/tokenization_transxssm.py

// tokenizer.model and tokenizer_config.json.
void write_tokenizer(const std::filesystem::path& folder, const std::filesystem::path& model,
                     const Tokenizer& tokenizer);

// [{"text", "ids"}]: text that goes wrong where a tokenizer is converted, with our ids, for
// scripts/check_export.py.
nlohmann::json tokenizer_samples(const Tokenizer& tokenizer);

}  // namespace transxssm
