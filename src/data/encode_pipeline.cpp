#include "data/encode_pipeline.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "core/check.h"
#include "core/hash.h"

namespace transxssm {
namespace {

// Text under way between reader and writer. Its tokens take up to four times as much again.
constexpr size_t kTextInFlight = size_t{64} << 20;

EncodedBlock encode(const TextBlock& block, const PrepareOptions& options, const Tokenizer* tokenizer) {
  EncodedBlock out;
  out.source = block.source;
  out.index = block.index;
  out.digest = block.digest;
  out.consumed = block.consumed;
  if (tokenizer != nullptr) out.tokens.reserve(block.bytes.size() / 3);
  for_each_document(block, options.text_field, [&](const TextDocument& document) {
    EncodedDocument encoded;
    encoded.line = document.line;
    encoded.continued = document.continued;
    encoded.error = document.error;
    encoded.text_bytes = static_cast<int64_t>(document.text.size());
    if (!document.text.empty()) {
      encoded.hash = hash_name(std::string(document.text), 0);
      const size_t before = out.tokens.size();
      if (tokenizer != nullptr) {
        if (options.bos) out.tokens.push_back(tokenizer->bos_id());
        tokenizer->encode(document.text, out.tokens);
        out.tokens.push_back(tokenizer->eos_id());
      }
      encoded.tokens = out.tokens.size() - before;
    }
    out.documents.push_back(std::move(encoded));
  });
  return out;
}

}  // namespace

std::unique_ptr<EncodePipeline> start_pipeline(const std::vector<TextSource>& sources,
                                               const InputPosition& from, const PrepareOptions& options,
                                               const Tokenizer* tokenizer) {
  auto reader = std::make_shared<BlockReader>(sources, from.source);
  const auto read = [reader, from]() -> std::optional<TextBlock> {
    auto block = reader->next();
    while (block && block->source == from.source && block->index < from.block) block = reader->next();
    const bool first = block && block->source == from.source && block->index == from.block;
    expect_input(
        !first || from.digest.empty() || block->digest == from.digest,
        "standard input is not what the earlier run of data prepare read; give the same, or --overwrite");
    return block;
  };
  const int threads = options.threads > 0
                          ? options.threads
                          : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  return std::make_unique<EncodePipeline>(
      read, [&options, tokenizer](const TextBlock& block) { return encode(block, options, tokenizer); },
      [](const TextBlock& block) { return block.bytes.size(); }, threads, kTextInFlight);
}

}  // namespace transxssm
