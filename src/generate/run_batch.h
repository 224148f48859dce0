// A batch of prompts from the first drawn token to the end of every row.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "generate/decoder.h"

namespace transxssm {

enum class Finish {
  eos,     // the model ended the document
  stop,    // the receiver wanted no more
  length,  // as many tokens as were allowed
};

// "eos", "stop", "length".
const char* name_of(Finish finish);

struct RowRequest {
  DecodeRequest decode;
  int64_t max_new_tokens = 0;  // at least 1
};

// Given each token of each row but the end-of-document one as soon as it is known; false ends the row.
using TokenReceiver = std::function<bool(size_t row, int64_t token)>;

// How each row ended. `eos_id` −1: no token ends a document.
std::vector<Finish> run_batch(Decoder& decoder, const std::vector<RowRequest>& rows, int64_t eos_id,
                              const TokenReceiver& receive);

}  // namespace transxssm
