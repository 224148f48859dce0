// Somebody else's tokenizer in an exported folder: its files as they are, and what they say of special ids.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "export/hf_config.h"

namespace transxssm {

// Whether `folder` holds a tokenizer that transformers loads and that is not the class we export.
bool holds_foreign_tokenizer(const std::filesystem::path& folder);

class ForeignTokenizer {
 public:
  // Throws InputError when `folder` holds no such tokenizer, or a file that is not JSON.
  explicit ForeignTokenizer(const std::filesystem::path& folder);

  // The files that belong to it, below the folder, in order: all but hidden ones, weights, configuration and
  // modelling files, proofs and Markdown. Of subfolders only that of chat templates.
  const std::vector<std::filesystem::path>& files() const { return files_; }

  // Unchanged.
  void copy_to(const std::filesystem::path& folder) const;

  // Sets the ids of BOS, EOS and padding in `details`. Throws InputError when the tokenizer has ids that a
  // model of `vocab_size` has no embedding for, or another EOS than `details` has already. A token that is
  // named, but whose id no file tells, is logged.
  void tell_ids(int64_t vocab_size, ExportDetails& details) const;

  // Of its SentencePiece model; empty without one.
  std::string hash() const;

 private:
  std::optional<int64_t> special_id(const char* key) const;

  std::filesystem::path folder_;
  std::vector<std::filesystem::path> files_;
  nlohmann::json special_;              // "bos_token" and the like
  std::map<std::string, int64_t> ids_;  // of every token that the files of JSON, or vocab.txt, list
};

}  // namespace transxssm
