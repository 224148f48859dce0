// `data inspect`: counts and documents of token shards.
#include <algorithm>
#include <charconv>
#include <iomanip>
#include <memory>

#include "core/check.h"
#include "core/counted.h"
#include "data/corpus_manifest.h"
#include "data/corpus_tools.h"
#include "data/token_file.h"
#include "data/tokenizer.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

struct OpenShard {
  TokenFile file;
  int64_t first_document = 0;  // in the count over all shards
};

bool same_path(const fs::path& a, const fs::path& b) {
  std::error_code error;
  return fs::equivalent(a, b, error) && !error;
}

std::vector<OpenShard> open_shards(const std::string& path, const std::optional<CorpusManifest>& manifest) {
  std::vector<fs::path> prefixes;
  if (manifest && same_path(path, manifest->folder)) {
    for (const ShardRecord& shard : manifest->shards) prefixes.push_back(manifest->folder / shard.name);
  } else {
    prefixes = find_token_files(path);
  }
  std::vector<OpenShard> shards;
  int64_t documents = 0;
  for (const fs::path& prefix : prefixes) {
    shards.push_back({TokenFile(prefix), documents});
    documents += shards.back().file.num_documents();
  }
  return shards;
}

std::unique_ptr<Tokenizer> open_tokenizer(const fs::path& given,
                                          const std::optional<CorpusManifest>& manifest) {
  if (!given.empty()) {
    auto tokenizer = std::make_unique<Tokenizer>(given);
    expect_input(!manifest || manifest->tokenizer_hash() == tokenizer->hash(),
                 concat(given.string(), ": is not the tokenizer of this corpus; without --tokenizer ",
                        (manifest ? manifest->folder / "tokenizer.model" : fs::path()).string(), " is used"));
    return tokenizer;
  }
  if (!manifest || !fs::exists(manifest->folder / "tokenizer.model")) return nullptr;
  auto tokenizer = std::make_unique<Tokenizer>(manifest->folder / "tokenizer.model");
  return tokenizer->hash() == manifest->tokenizer_hash() ? std::move(tokenizer) : nullptr;
}

int64_t longest_document(const TokenFile& file) {
  int64_t longest = 0;
  for (int64_t d = 0; d < file.num_documents(); ++d) {
    longest = std::max(longest, file.document_begin(d + 1) - file.document_begin(d));
  }
  return longest;
}

void print_counts(const std::vector<OpenShard>& shards, std::ostream& out) {
  const auto row = [&](const auto& documents, const auto& tokens, const auto& mean, const auto& longest,
                       const std::string& name) {
    out << std::setw(12) << documents << std::setw(16) << tokens << std::setw(10) << mean << std::setw(12)
        << longest << "  " << name << "\n";
  };
  row("documents", "tokens", "mean", "longest", "shard");
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t longest = 0;
  const auto mean = [](int64_t total, int64_t count) { return count > 0 ? total / count : 0; };
  for (const auto& [file, first] : shards) {
    const int64_t longest_here = longest_document(file);
    row(file.num_documents(), file.num_tokens(), mean(file.num_tokens(), file.num_documents()), longest_here,
        file.prefix().string());
    documents += file.num_documents();
    tokens += file.num_tokens();
    longest = std::max(longest, longest_here);
  }
  row(documents, tokens, mean(tokens, documents), longest, concat("total of ", shards.size()));
}

void print_manifest(const CorpusManifest& manifest, std::ostream& out) {
  const CorpusCounts& counts = manifest.counts;
  out << "corpus " << manifest.folder.string() << ": vocabulary " << manifest.vocab_size() << ", tokenizer "
      << manifest.tokenizer_hash() << "\n"
      << counted(counts.documents, "document") << ", " << counted(counts.tokens, "token") << ", "
      << counted(counts.text_bytes, "byte") << " of text";
  if (counts.tokens > 0) {
    out << " (" << std::fixed << std::setprecision(3)
        << static_cast<double>(counts.text_bytes) / static_cast<double>(counts.tokens) << " bytes a token)";
  }
  out << "; left out: " << counts.empty << " empty, " << counts.skipped << " bad\n";
}

void print_document(const OpenShard& shard, int64_t number, const Tokenizer* tokenizer, bool as_tokens,
                    std::ostream& out) {
  const int64_t local = number - shard.first_document;
  const int64_t begin = shard.file.document_begin(local);
  std::vector<int32_t> ids(static_cast<size_t>(shard.file.document_begin(local + 1) - begin));
  shard.file.read(begin, ids);
  out << "=== document " << number << " (" << shard.file.prefix().string() << ", document " << local
      << "): " << ids.size() << " tokens\n";
  if (!as_tokens) {
    out << tokenizer->decode(ids) << "\n";
    return;
  }
  for (const int32_t id : ids) {
    out << id;
    if (tokenizer != nullptr) out << "\t" << nlohmann::json(tokenizer->piece(id)).dump();
    out << "\n";
  }
}

}  // namespace

std::pair<int64_t, int64_t> parse_document_range(const std::string& text) {
  const auto number = [&](std::string_view digits) {
    int64_t value = -1;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    const bool whole = error == std::errc() && end == digits.data() + digits.size();
    expect_input(whole && value >= 0,
                 concat("'", text, "' is no document or range of documents; valid are 7 or 3..9"));
    return value;
  };
  const size_t dots = text.find("..");
  if (dots == std::string::npos) return {number(text), number(text)};
  const auto range = std::pair(number(std::string_view(text).substr(0, dots)),
                               number(std::string_view(text).substr(dots + 2)));
  expect_input(range.first <= range.second, concat("range of documents ", text, " ends before it begins"));
  return range;
}

void inspect_corpus(const InspectOptions& options, std::ostream& out) {
  const auto manifest = find_manifest(options.path);
  const auto shards = open_shards(options.path, manifest);
  if (!options.documents) {
    if (manifest) print_manifest(*manifest, out);
    return print_counts(shards, out);
  }
  const int64_t total = shards.back().first_document + shards.back().file.num_documents();
  const auto [first, last] = *options.documents;
  expect_input(last < total,
               concat(options.path, ": has no document ", last, "; there are ", total, ", counted from 0"));
  const auto tokenizer = open_tokenizer(options.tokenizer, manifest);
  expect_input(tokenizer || options.tokens,
               "no tokenizer is known for this data: name it with --tokenizer, or print ids with --tokens");
  for (int64_t number = first; number <= last; ++number) {
    const auto after = std::upper_bound(shards.begin(), shards.end(), number,
                                        [](int64_t n, const OpenShard& s) { return n < s.first_document; });
    print_document(*std::prev(after), number, tokenizer.get(), options.tokens, out);
  }
}

}  // namespace transxssm
