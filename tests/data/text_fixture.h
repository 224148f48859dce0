// Small texts, files and tokenizers for the tests of this folder.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/check.h"
#include "core/rng.h"
#include "data/tokenizer_trainer.h"
#include "support/source_dir.h"
#include "support/temp_folder.h"

namespace transxssm {

// A temporary folder with files that are written with their content.
class ScratchFolder : public test::TempFolder {
 public:
  std::string write(const std::string& name, std::string_view content) const {
    const std::filesystem::path file = path() / name;
    std::filesystem::create_directories(file.parent_path());
    write_file_atomically(file, content);
    return file.string();
  }
};

using test::input_error_of;

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Real English text that is always there.
inline std::string license_text() { return read_file(test::kSourceDir / "LICENSE"); }

// Document `i` of an endless corpus: 1 to 60 words of the licence, now and then with other characters.
inline std::string sample_document(int64_t i) {
  static const std::string text = license_text();
  const Philox random(static_cast<uint64_t>(i));
  const auto numbers = random.block(0);
  const size_t begin = text.find(' ', numbers[0] % (text.size() - 1000));
  std::string document = text.substr(begin, 5 + numbers[1] % 400);
  static constexpr const char* kEnds[] = {"", "\n\n", " café “naïve” ", "\t0123456789",
                                          " \xE2\x96\x81 漢字 😀"};
  return concat(i, document, kEnds[numbers[2] % 5]);
}

inline std::string json_line(const std::string& text) {
  return nlohmann::json({{"text", text}}).dump() + "\n";
}

inline std::string sample_jsonl(int64_t documents) {
  std::string lines;
  for (int64_t i = 0; i < documents; ++i) lines += json_line(sample_document(i));
  return lines;
}

inline TokenizerTraining small_training(const ScratchFolder& folder, const std::string& type = "bpe") {
  TokenizerTraining training;
  training.inputs = {(test::kSourceDir / "LICENSE").string()};
  training.model_prefix = (folder / ("tokenizer-" + type)).string();
  training.vocab_size = 600;
  training.type = type;
  training.threads = 1;
  return training;
}

// A tokenizer of 600 pieces, trained on the licence.
inline std::filesystem::path small_tokenizer(const ScratchFolder& folder, const std::string& type = "bpe") {
  return train_tokenizer(small_training(folder, type)).model;
}

}  // namespace transxssm
