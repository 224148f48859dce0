#include "trainer/perplexity.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/check.h"
#include "data/text_reader.h"
#include "data/token_file.h"
#include "trainer/scorer.h"

namespace transxssm {
namespace {

constexpr int64_t kFirstPositions = 128;
// Windows are sorted by length and scored when so many tokens of them have been gathered.
constexpr int64_t kGatheredTokens = int64_t{1} << 22;

// Scores documents as they come.
class Measure {
 public:
  Measure(const HybridModel& model, std::span<const int32_t> bytes_per_token,
          const PerplexityOptions& options, const TokensDone& done)
      : model_(model), bytes_per_token_(bytes_per_token), options_(options), done_(done) {}

  // False when no more documents are wanted.
  bool add(std::span<const int32_t> document, const std::string& where) {
    for (const int32_t id : document)
      expect_input(id >= 0 && id < options_.vocab_size,
                   concat(where, ": token id ", id, " is outside the vocabulary (0 to ",
                          options_.vocab_size - 1, ")"));
    ++out_.documents;
    const auto length = static_cast<int64_t>(document.size());
    for (int64_t begin = 0; begin + 1 < length; begin += options_.max_length) {
      const int64_t end = std::min(begin + options_.max_length + 1, length);
      windows_.push_back({{document.begin() + begin, document.begin() + end}, 1});
      places_.push_back(where);
      gathered_ += end - begin;
    }
    if (gathered_ >= kGatheredTokens) score();
    return options_.limit == 0 || out_.documents < options_.limit;
  }

  Perplexity finish(const std::string& path) {
    score();
    expect_input(out_.tokens > 0, concat(path, ": has no token to predict"));
    if (out_.windows > 1) {
      // Of a ratio of sums over windows: Σ (nats − loss · tokens)² n / (n − 1) / tokens².
      const double n = static_cast<double>(out_.windows), r = out_.loss();
      const double squares = nats_nats_ - 2 * r * nats_tokens_ + r * r * tokens_tokens_;
      out_.loss_stderr = std::sqrt(std::max(0.0, squares) * n / (n - 1)) / static_cast<double>(out_.tokens);
    }
    return std::move(out_);
  }

 private:
  PositionLoss& position(int64_t place) {
    const auto bucket = static_cast<size_t>(std::bit_width(static_cast<uint64_t>(place / kFirstPositions)));
    while (out_.positions.size() <= bucket) {
      const int64_t begin = out_.positions.empty() ? 1 : out_.positions.back().end;
      out_.positions.push_back({begin, out_.positions.empty() ? kFirstPositions : 2 * begin, 0, 0});
    }
    return out_.positions[bucket];
  }

  void add_window(const ScoredText& window, const std::string& where, std::span<const float> losses) {
    double nats = 0;
    for (size_t i = 0; i < losses.size(); ++i) {
      const auto id = static_cast<size_t>(window.tokens[i + 1]);
      if (id < bytes_per_token_.size()) out_.bytes += bytes_per_token_[id];
      PositionLoss& at = position(static_cast<int64_t>(i) + 1);
      at.nats += static_cast<double>(losses[i]);
      ++at.tokens;
      nats += static_cast<double>(losses[i]);
    }
    expect_input(std::isfinite(nats), concat(where, ": ", kNotFinite));
    const auto tokens = static_cast<double>(losses.size());
    out_.nats += nats;
    out_.tokens += static_cast<int64_t>(losses.size());
    ++out_.windows;
    nats_nats_ += nats * nats;
    nats_tokens_ += nats * tokens;
    tokens_tokens_ += tokens * tokens;
  }

  void score() {
    score_texts(
        model_, windows_, options_.batch_tokens, Mesh::single(),
        [&](size_t index, std::span<const float> losses, std::span<const char>) {
          add_window(windows_[index], places_[index], losses);
        },
        [&](size_t) {
          done_(out_.tokens);
          return true;
        });
    windows_.clear();
    places_.clear();
    gathered_ = 0;
  }

  const HybridModel& model_;
  std::span<const int32_t> bytes_per_token_;
  PerplexityOptions options_;
  const TokensDone& done_;
  std::vector<ScoredText> windows_;
  std::vector<std::string> places_;  // of their documents, for messages
  int64_t gathered_ = 0;
  double nats_nats_ = 0, nats_tokens_ = 0, tokens_tokens_ = 0;  // sums over windows
  Perplexity out_;
};

}  // namespace

Perplexity text_perplexity(const HybridModel& model, const Tokenizer& tokenizer, const std::string& path,
                           const std::string& text_field, const PerplexityOptions& options,
                           const TokensDone& done) {
  const auto bytes = bytes_per_token(tokenizer);
  Measure measure(model, bytes, options, done);
  const auto sources = find_text_sources({path}, TextFormat::automatic);
  BlockReader reader(sources);
  bool wanted = true;
  while (auto block = wanted ? reader.next() : std::nullopt) {
    const std::string& name = sources[block->source].name;
    if (block->error) throw InputError(concat(name, ":", block->first_line, ": ", *block->error));
    for_each_document(*block, text_field, [&](const TextDocument& document) {
      const std::string where = concat(name, ":", document.line);
      expect_input(document.error.empty(), concat(where, ": ", document.error));
      if (!wanted || document.text.empty()) return;
      std::vector<int32_t> ids{tokenizer.bos_id()};
      tokenizer.encode(document.text, ids);
      ids.push_back(tokenizer.eos_id());
      wanted = measure.add(ids, where);
    });
  }
  return measure.finish(path);
}

Perplexity token_perplexity(const HybridModel& model, const std::string& path,
                            std::span<const int32_t> bytes_per_token, const PerplexityOptions& options,
                            const TokensDone& done) {
  Measure measure(model, bytes_per_token, options, done);
  for (const auto& prefix : find_token_files(path)) {
    const TokenFile shard(prefix);
    for (int64_t d = 0; d < shard.num_documents(); ++d) {
      std::vector<int32_t> ids(static_cast<size_t>(shard.document_begin(d + 1) - shard.document_begin(d)));
      shard.read(shard.document_begin(d), ids);
      if (!measure.add(ids, concat(shard.bin_path().string(), ": document ", d))) return measure.finish(path);
    }
  }
  return measure.finish(path);
}

}  // namespace transxssm
