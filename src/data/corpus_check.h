// Whether data, tokenizer and model fit together, looked at before training starts.
#pragma once

#include <cstdint>
#include <string>

#include "config/data_config.h"

namespace transxssm {

// For every training and validation path: data that `data prepare` made must come from the tokenizer with
// hash `tokenizer_hash` (empty: there is none to compare) and fit into `vocab_size`; InputError otherwise. A
// warning where the first document doesn't end with `eod_id`: the model would not learn to end a text.
void check_corpus(const DataConfig& config, const std::string& tokenizer_hash, int64_t vocab_size,
                  int32_t eod_id);

// The same where the token files that `config` names are the same: their sizes and what stands at their ends.
std::string data_fingerprint(const DataConfig& config);

}  // namespace transxssm
