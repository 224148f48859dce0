// Loss of a model on whole documents: per token, per byte, by position.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "model/hybrid_model.h"

namespace transxssm {

struct PerplexityOptions {
  int64_t max_length = 0;  // tokens of a window; the rest of a document starts anew, as in training
  int64_t batch_tokens = 0;
  int64_t limit = 0;       // documents; 0: all
  int64_t vocab_size = 0;  // ids below it are known
};

struct PositionLoss {
  int64_t begin = 0, end = 0;  // places of the predicted tokens in their window, from 1
  int64_t tokens = 0;
  double nats = 0;
};

struct Perplexity {
  double nats = 0;
  int64_t documents = 0, windows = 0, tokens = 0, bytes = 0;  // tokens and bytes that were predicted
  std::optional<double> loss_stderr;                          // of nats/tokens, over windows
  std::vector<PositionLoss> positions;                        // [1, 128), [128, 256), [256, 512), …

  double loss() const { return nats / static_cast<double>(tokens); }
};

// Called with tokens scored so far.
using TokensDone = std::function<void(int64_t)>;

// Files of text or JSON lines, as `data prepare` reads them. Each document is BOS, its text, EOS; everything
// after BOS counts.
Perplexity text_perplexity(const HybridModel& model, const Tokenizer& tokenizer, const std::string& path,
                           const std::string& text_field, const PerplexityOptions& options,
                           const TokensDone& done);

// Documents of token shards, as data.validation names them. Without bytes_per_token (data/tokenizer.h) no
// bytes are counted.
Perplexity token_perplexity(const HybridModel& model, const std::string& path,
                            std::span<const int32_t> bytes_per_token, const PerplexityOptions& options,
                            const TokensDone& done);

}  // namespace transxssm
