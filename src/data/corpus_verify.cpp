// `data verify`: finds damage in token shards.
#include <algorithm>
#include <limits>
#include <set>
#include <span>

#include "core/check.h"
#include "core/counted.h"
#include "core/hash.h"
#include "data/corpus_manifest.h"
#include "data/corpus_tools.h"
#include "data/token_file.h"
#include "data/tokenizer.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kTokensAtATime = 1 << 20;

std::string absolute_name(const fs::path& path) { return fs::weakly_canonical(path).string(); }

class Verifier {
 public:
  Verifier(const std::string& path, const fs::path& tokenizer) : path_(path), manifest_(find_manifest(path)) {
    report_.has_manifest = manifest_.has_value();
    if (manifest_) report_.vocab_size = manifest_->vocab_size();
    open_tokenizer(tokenizer);
  }

  VerifyReport run() {
    for (const fs::path& prefix : shards()) {
      ++report_.shards;
      check([&] { check_shard(prefix); });
    }
    return std::move(report_);
  }

 private:
  // Damage found by the readers of files comes as InputError.
  template <class Action>
  void check(Action action) {
    try {
      action();
    } catch (const InputError& error) {
      damaged(error.what());
    }
  }
  void damaged(const std::string& message) { report_.damage.push_back(message); }

  void open_tokenizer(const fs::path& given);
  std::vector<fs::path> shards();
  bool is_asked_for(const ShardRecord& shard) const;
  const ShardRecord* record_of(const fs::path& prefix) const;
  void check_shard(const fs::path& prefix);
  void check_tokens(const TokenFile& file);
  std::string check_document(const TokenFile& file, int64_t document);
  void check_record(const TokenFile& file, const ShardRecord& record);

  std::string path_;
  std::optional<CorpusManifest> manifest_;
  std::unique_ptr<Tokenizer> tokenizer_;
  VerifyReport report_;
  std::vector<int32_t> buffer_;
};

void Verifier::open_tokenizer(const fs::path& given) {
  const fs::path copy = manifest_ ? manifest_->folder / "tokenizer.model" : fs::path();
  if (!given.empty()) {
    tokenizer_ = std::make_unique<Tokenizer>(given);
    report_.vocab_size = tokenizer_->vocab_size();
    if (manifest_ && manifest_->tokenizer_hash() != tokenizer_->hash()) {
      damaged(concat(given.string(), ": is not the tokenizer that made these tokens"));
    }
  } else if (manifest_) {
    check([&] { tokenizer_ = std::make_unique<Tokenizer>(copy); });
    if (tokenizer_ && manifest_->tokenizer_hash() != tokenizer_->hash()) {
      damaged(concat(copy.string(), ": is not the tokenizer that made these tokens"));
      tokenizer_.reset();
    }
  }
}

// Of the shards in the manifest: all for its folder, else those below the path asked for.
bool Verifier::is_asked_for(const ShardRecord& shard) const {
  const std::string name = absolute_name(manifest_->folder / shard.name);
  const std::string asked = absolute_name(path_);
  return name == asked || name.starts_with(asked + "/");
}

// What is there, and what the manifest says should be.
std::vector<fs::path> Verifier::shards() {
  if (!manifest_) {
    expect_input(!fs::exists(fs::path(path_) / "prepare-state.json"),
                 concat(path_, ": data prepare has not finished here; run it again with the same options"));
    return find_token_files(path_);
  }
  std::set<fs::path> prefixes;
  const bool whole = absolute_name(path_) == absolute_name(manifest_->folder);
  if (whole) {
    for (const char* split : {"train", "val"}) {
      const fs::path folder = manifest_->folder / split;
      if (!fs::is_directory(folder) || fs::is_empty(folder)) continue;
      for (const fs::path& prefix : find_token_files(folder.string())) prefixes.insert(prefix);
    }
  } else {
    for (const fs::path& prefix : find_token_files(path_)) prefixes.insert(prefix);
  }
  std::set<std::string> found;
  for (const fs::path& prefix : prefixes) found.insert(absolute_name(prefix));
  for (const ShardRecord& shard : manifest_->shards) {
    const fs::path prefix = manifest_->folder / shard.name;
    if (is_asked_for(shard) && !found.contains(absolute_name(prefix))) {
      damaged(concat(prefix.string(), ": is missing, though the manifest has it"));
    }
  }
  return {prefixes.begin(), prefixes.end()};
}

const ShardRecord* Verifier::record_of(const fs::path& prefix) const {
  for (const ShardRecord& shard : manifest_->shards) {
    if (absolute_name(manifest_->folder / shard.name) == absolute_name(prefix)) return &shard;
  }
  return nullptr;
}

void Verifier::check_shard(const fs::path& prefix) {
  if (manifest_ && record_of(prefix) == nullptr) damaged(concat(prefix.string(), ": is not in the manifest"));
  const TokenFile file(prefix);
  report_.documents += file.num_documents();
  report_.tokens += file.num_tokens();
  if (manifest_ && record_of(prefix) != nullptr) check_record(file, *record_of(prefix));
  file.verify_index();
  check_tokens(file);
}

void Verifier::check_record(const TokenFile& file, const ShardRecord& record) {
  const std::string name = file.prefix().string();
  if (file.num_documents() != record.documents || file.num_tokens() != record.tokens) {
    damaged(concat(name, ": has ", counted(file.num_documents(), "document"), " and ",
                   counted(file.num_tokens(), "token"), ", the manifest says ", record.documents, " and ",
                   record.tokens));
  }
  if (hash_file(name + ".bin") != record.bin_hash)
    damaged(concat(name, ".bin: checksum differs from the manifest's"));
  if (hash_file(name + ".idx") != record.idx_hash)
    damaged(concat(name, ".idx: checksum differs from the manifest's"));
}

// The first bad document is reported: damage seldom comes alone.
void Verifier::check_tokens(const TokenFile& file) {
  for (int64_t document = 0; document < file.num_documents(); ++document) {
    const std::string problem = check_document(file, document);
    if (problem.empty()) continue;
    return damaged(concat(file.bin_path().string(), ": document ", document, ": ", problem));
  }
}

std::string Verifier::check_document(const TokenFile& file, int64_t document) {
  const int64_t vocab_size = report_.vocab_size > 0 ? report_.vocab_size : int64_t{1} << 31;
  const int64_t begin = file.document_begin(document);
  const int64_t end = file.document_begin(document + 1);
  if (end < begin) return concat("ends at token ", end, ", before its start at ", begin);
  for (int64_t at = begin; at < end; at += kTokensAtATime) {
    buffer_.resize(static_cast<size_t>(std::min(kTokensAtATime, end - at)));
    file.read(at, buffer_);
    const auto bad =
        std::find_if(buffer_.begin(), buffer_.end(), [&](int32_t id) { return id < 0 || id >= vocab_size; });
    if (bad != buffer_.end()) {
      return concat("token ", at - begin + (bad - buffer_.begin()), " is ", *bad,
                    ", outside the vocabulary of ", vocab_size);
    }
    if (!manifest_ || !tokenizer_) continue;
    const bool bos = manifest_->identity.value("bos", false);
    if (bos && at == begin && buffer_.front() != tokenizer_->bos_id()) return "does not begin with BOS";
    if (at + kTokensAtATime >= end && buffer_.back() != tokenizer_->eos_id()) return "does not end with EOS";
  }
  return {};
}

}  // namespace

VerifyReport verify_corpus(const std::string& path, const fs::path& tokenizer) {
  return Verifier(path, tokenizer).run();
}

}  // namespace transxssm
