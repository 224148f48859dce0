// Training of SentencePiece models on a sample of text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/text_reader.h"

namespace transxssm {

struct TokenizerTraining {
  std::vector<std::string> inputs;  // as for find_text_sources
  TextFormat format = TextFormat::automatic;
  std::string text_field = "text";
  std::string model_prefix;  // PREFIX.model is written; the ending may be given
  int32_t vocab_size = 32768;
  std::string type = "bpe";  // or unigram
  // Text to train on. A larger corpus is sampled: memory stays below about 200 MB + 15 times this (prose;
  // text without spaces needs more), whatever the input.
  int64_t sample_bytes = 50'000'000;
  double character_coverage = 0.9995;  // the rarest characters beyond it get byte pieces instead of their own
  uint64_t seed = 1;                   // of the sample
  int32_t threads = 8;  // part of the result (the model file records it; unigram sums depend on it)
  bool skip_bad = false;
};

struct TokenizerTrainingReport {
  int64_t documents = 0;
  int64_t bytes = 0;  // of their text
  int64_t skipped = 0;
  int64_t sampled_bytes = 0;
  int64_t sentences = 0;   // handed to the trainer
  int64_t long_lines = 0;  // lines over the trainer's limit, which it would have dropped; split instead
  std::filesystem::path model;
};

// Identity normalisation, no dummy prefix, whitespace kept, byte fallback; ids <unk> 0, <s> 1, </s> 2,
// <pad> 3. The same input and options give the same file. Throws InputError for bad input, when there is no
// text, and when the text does not allow the vocabulary.
TokenizerTrainingReport train_tokenizer(const TokenizerTraining& options);

}  // namespace transxssm
