// The parallel part of `data prepare`: blocks of text in, tokenized documents out, in the order of the input.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/ordered_map.h"
#include "data/prepare_state.h"
#include "data/text_reader.h"
#include "data/tokenizer.h"

namespace transxssm {

struct EncodedDocument {
  int64_t line = 0;   // where it starts in its source
  size_t tokens = 0;  // in EncodedBlock::tokens, BOS and EOS included; 0 for one that is empty or bad
  int64_t text_bytes = 0;
  uint64_t hash = 0;  // of the text alone, so that equal documents stay on one side of a split
  bool continued = false;
  std::string error;
};

struct EncodedBlock {
  size_t source = 0;
  int64_t index = 0;
  std::string digest;
  uint64_t consumed = 0;
  std::vector<int32_t> tokens;
  std::vector<EncodedDocument> documents;
};
using EncodePipeline = OrderedMap<TextBlock, EncodedBlock>;

// Starts with the block of `from`; the ones before it are read past. Without a tokenizer documents are only
// hashed.
std::unique_ptr<EncodePipeline> start_pipeline(const std::vector<TextSource>& sources,
                                               const InputPosition& from, const PrepareOptions& options,
                                               const Tokenizer* tokenizer);

}  // namespace transxssm
