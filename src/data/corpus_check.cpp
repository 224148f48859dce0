#include "data/corpus_check.h"

#include <span>

#include "core/check.h"
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

}  // namespace

void check_corpus(const DataConfig& config, const std::string& tokenizer_hash, int64_t vocab_size,
                  int32_t eod_id) {
  for (const TrainSource& source : config.train)
    check_path("data.train", source.path, tokenizer_hash, vocab_size, eod_id);
  for (const ValidationSource& source : config.validation)
    check_path("data.validation", source.path, tokenizer_hash, vocab_size, eod_id);
}

}  // namespace transxssm
