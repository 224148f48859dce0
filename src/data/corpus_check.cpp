#include "data/corpus_check.h"

#include <algorithm>
#include <fstream>
#include <span>

#include "core/check.h"
#include "core/hash.h"
#include "core/logging.h"
#include "data/corpus_manifest.h"
#include "data/token_file.h"

namespace transxssm {
namespace {

void check_path(const std::string& key, const std::string& path, const std::string& tokenizer_hash,
                int64_t vocab_size, int32_t eod_id) {
  if (const auto manifest = find_manifest(path)) {
    expect_input(manifest->vocab_size() <= vocab_size,
                 concat(key, ": ", path, " was made with a tokenizer of ", manifest->vocab_size(),
                        " pieces, but model.vocab_size is ", vocab_size, "; it must be at least as large"));
    expect_input(tokenizer_hash.empty() || manifest->tokenizer_hash() == tokenizer_hash,
                 concat(key, ": ", path,
                        " was made with another tokenizer than data.tokenizer; the corpus keeps its own as ",
                        (manifest->folder / "tokenizer.model").string()));
  }
  const TokenFile file(find_token_files(path).front());
  const int64_t end = file.num_documents() > 0 ? file.document_begin(1) : 0;
  if (end == 0) return;
  int32_t last = 0;
  file.read(end - 1, std::span(&last, 1));
  if (last != eod_id)
    log_warning(concat(key, ": the first document of ", path, " ends with token ", last,
                       ", not with the end-of-document token ", eod_id));
}

// Size of a file, and its first and last bytes.
std::string ends_of(const std::string& path) {
  constexpr std::streamoff kEnds = 65536;
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  expect_input(in.good(), concat("cannot read ", path));
  const std::streamoff size = in.tellg(), part = std::min(size, kEnds);
  std::string text(static_cast<size_t>(2 * part), '\0');
  in.seekg(0).read(text.data(), part);
  in.seekg(size - part).read(text.data() + part, part);
  expect_input(in.good(), concat("reading ", path, " failed"));
  return std::to_string(size) + text;
}

}  // namespace

void check_corpus(const DataConfig& config, const std::string& tokenizer_hash, int64_t vocab_size,
                  int32_t eod_id) {
  for (const TrainSource& source : config.train)
    check_path("data.train", source.path, tokenizer_hash, vocab_size, eod_id);
  for (const ValidationSource& source : config.validation)
    check_path("data.validation", source.path, tokenizer_hash, vocab_size, eod_id);
}

std::string data_fingerprint(const DataConfig& config) {
  std::string text;
  const auto add = [&](const std::string& path) {
    for (const auto& file : find_token_files(path))
      for (const char* ending : {".bin", ".idx"}) text += ends_of(file.string() + ending);
  };
  for (const TrainSource& source : config.train) add(source.path);
  for (const ValidationSource& source : config.validation) add(source.path);
  return hash_bytes(text.data(), text.size());
}

}  // namespace transxssm
