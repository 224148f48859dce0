#include "data/prepare.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <queue>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/atomic_file.h"
#include "core/check.h"
#include "core/counted.h"
#include "core/hash.h"
#include "core/logging.h"
#include "data/encode_pipeline.h"
#include "data/prepare_state.h"
#include "data/progress_line.h"
#include "data/segment_writer.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kNamedBadDocuments = 5;  // with --skip-bad, as warnings; the rest is only counted

// Keeps other processes off the output folder for as long as it lives.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder)
      : fd_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    expect_input(fd_ >= 0, concat(folder.string(), ": cannot be opened as a folder: ", std::strerror(errno)));
    if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
    ::close(fd_);
    throw InputError(concat(folder.string(), ": another data prepare is working in this folder"));
  }
  ~FolderLock() { ::close(fd_); }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_;
};

class Preparation {
 public:
  Preparation(const PrepareOptions& options, const Tokenizer& tokenizer, std::vector<TextSource> sources)
      : options_(options), tokenizer_(tokenizer), sources_(std::move(sources)) {}

  CorpusManifest run();

 private:
  std::optional<CorpusManifest> find_earlier_work();
  void start_over(const std::optional<CorpusManifest>& earlier) const;
  void expect_skipping_fits(const CorpusCounts& counts) const;
  void write_all();
  void clean_up_after_failure(bool made_folder) const;
  void select_validation_documents();
  void write_segments();
  void write_block(const EncodedBlock& block);
  void write_document(const EncodedBlock& block, const EncodedDocument& document,
                      std::span<const int32_t> tokens);
  void report_bad(const EncodedBlock& block, const EncodedDocument& document);
  bool goes_to_validation(const EncodedDocument& document) const;
  void finish_segment();
  CorpusManifest finish();

  const PrepareOptions& options_;
  const Tokenizer& tokenizer_;
  const std::vector<TextSource> sources_;
  PrepareState state_;
  InputPosition resume_;    // where this run starts
  CorpusCounts counts_;     // finished segments and the one being written
  InputPosition position_;  // of the document that comes next
  std::unique_ptr<SegmentWriter> segment_;
  std::unique_ptr<ProgressLine> progress_;
};

// For --overwrite, which also replaces a corpus whose manifest is damaged.
std::optional<CorpusManifest> earlier_manifest(const fs::path& folder) {
  try {
    return read_corpus_manifest(folder);
  } catch (const InputError&) {
    return std::nullopt;
  }
}

// Shards that an earlier run finished must still be there.
void expect_shards(const fs::path& folder, const std::vector<ShardRecord>& shards) {
  for (const ShardRecord& shard : shards) {
    const TokenFile file(folder / shard.name);
    expect_input(file.num_tokens() == shard.tokens,
                 concat(file.bin_path().string(), ": has ", counted(file.num_tokens(), "token"),
                        " instead of ", shard.tokens, "; make the corpus again with --overwrite"));
  }
}

// Keeps the n smallest keys of the whole input; the largest of them is the limit.
void Preparation::select_validation_documents() {
  const int64_t wanted = options_.validation_documents;
  std::priority_queue<SelectionLimit> smallest;
  int64_t number = 0;
  ProgressLine progress("choosing validation documents:", total_bytes(sources_));
  const auto pipeline = start_pipeline(sources_, {}, options_, nullptr);
  while (const auto block = pipeline->next()) {
    for (const EncodedDocument& document : block->documents) {
      if (document.text_bytes == 0 || document.continued) continue;
      smallest.push({document.hash, number++});
      if (static_cast<int64_t>(smallest.size()) > wanted) smallest.pop();
    }
    progress.show(block->consumed, 0, counted(number, "document"));
  }
  expect_input(number > wanted,
               concat("--validation-documents ", wanted, " leaves nothing to train on: the input has ",
                      counted(number, "document")));
  state_.limit = smallest.top();
}

bool Preparation::goes_to_validation(const EncodedDocument& document) const {
  if (document.continued) return position_.in_validation;
  if (state_.limit) return SelectionLimit{document.hash, position_.number} <= *state_.limit;
  return static_cast<double>(document.hash) < std::ldexp(options_.validation_fraction, 64);
}

void Preparation::report_bad(const EncodedBlock& block, const EncodedDocument& document) {
  const std::string message = concat(sources_[block.source].name, ":", document.line, ": ", document.error);
  expect_input(options_.skip_bad, message + " (--skip-bad leaves such documents out)");
  if (++counts_.skipped > kNamedBadDocuments) return;
  progress_->clear();
  log_warning(concat("skipped ", message));
}

void Preparation::write_document(const EncodedBlock& block, const EncodedDocument& document,
                                 std::span<const int32_t> tokens) {
  if (!document.error.empty()) return report_bad(block, document);
  if (document.text_bytes == 0) {
    ++counts_.empty;
    return;
  }
  if (segment_->num_tokens() > 0 &&
      segment_->num_tokens() + static_cast<int64_t>(tokens.size()) > options_.shard_tokens) {
    finish_segment();
  }
  position_.in_validation = goes_to_validation(document);
  segment_->add(tokens, document.text_bytes, position_.in_validation);
  if (!document.continued) ++position_.number;
  ++counts_.documents;
  counts_.tokens += static_cast<int64_t>(tokens.size());
  counts_.text_bytes += document.text_bytes;
  counts_.parts += document.continued ? 1 : 0;
  counts_.unknown += std::count(tokens.begin(), tokens.end(), tokenizer_.unk_id());
}

void Preparation::write_block(const EncodedBlock& block) {
  const bool resumed_here = block.source == resume_.source && block.index == resume_.block;
  const int64_t first = resumed_here ? resume_.document : 0;
  position_.source = block.source;
  position_.block = block.index;
  position_.digest = block.digest;
  std::span<const int32_t> rest = block.tokens;
  for (size_t d = 0; d < block.documents.size(); ++d) {
    const EncodedDocument& document = block.documents[d];
    position_.document = static_cast<int64_t>(d);
    if (position_.document >= first) write_document(block, document, rest.first(document.tokens));
    rest = rest.subspan(document.tokens);
  }
}

// The document at `position_` belongs to the next segment.
void Preparation::finish_segment() {
  segment_->finish(state_);
  state_.counts = counts_;
  state_.next = position_;
  write_prepare_state(options_.output, state_);
  segment_ = std::make_unique<SegmentWriter>(options_.output, tokenizer_.vocab_size(), state_);
  progress_->clear();
  log_info(concat("segment ", std::max(state_.shards.size(), state_.validation_parts.size()), " finished: ",
                  counted(counts_.documents, "document"), ", ", counted(counts_.tokens, "token"), " so far"));
}

void Preparation::write_segments() {
  segment_ = std::make_unique<SegmentWriter>(options_.output, tokenizer_.vocab_size(), state_);
  progress_ = std::make_unique<ProgressLine>("tokenizing", total_bytes(sources_, resume_.source));
  std::optional<uint64_t> skipped;  // bytes read past at a resume
  const auto pipeline = start_pipeline(sources_, resume_, options_, &tokenizer_);
  while (const auto block = pipeline->next()) {
    if (!skipped) skipped = resume_.block == 0 ? 0 : block->consumed;
    write_block(*block);
    progress_->show(block->consumed, *skipped, counted(counts_.tokens, "token"));
  }
  position_.source = sources_.size();
  position_.block = position_.document = 0;
  if (segment_->num_tokens() > 0) finish_segment();
  segment_.reset();
  progress_.reset();
}

CorpusManifest Preparation::finish() {
  const std::string skipped =
      counts_.skipped > 0 ? concat(", skipped ", counted(counts_.skipped, "bad one")) : "";
  expect_input(counts_.documents > 0, concat("no documents in ", names_of(sources_), skipped));
  expect_input(!state_.shards.empty(), "every document went to validation; lower --validation-fraction");
  CorpusManifest manifest;
  manifest.folder = options_.output;
  manifest.identity = state_.identity;
  for (auto& source : manifest.identity["sources"]) {
    if (source["name"] == "standard input") source["hash"] = position_.digest;
  }
  manifest.counts = counts_;
  manifest.shards = state_.shards;
  auto validation = gather_validation(options_.output, state_.validation_parts, options_.shard_tokens,
                                      tokenizer_.vocab_size());
  std::move(validation.begin(), validation.end(), std::back_inserter(manifest.shards));
  const fs::path copy = options_.output / "tokenizer.model";
  if (!fs::exists(copy) || hash_file(copy) != tokenizer_.hash())
    write_file_atomically(copy, read_file(options_.tokenizer));
  write_manifest(manifest);
  remove_prepare_state(options_.output);
  remove_validation_parts(options_.output);
  return manifest;
}

void Preparation::expect_skipping_fits(const CorpusCounts& counts) const {
  expect_input(options_.skip_bad || counts.skipped == 0,
               concat(options_.output.string(), ": was prepared with --skip-bad, which left out ",
                      counted(counts.skipped, "document"), "; give --skip-bad again, or --overwrite"));
}

// Makes room for new shards. A tokenizer.model that is not from an earlier run is the user's own and stays.
void Preparation::start_over(const std::optional<CorpusManifest>& earlier) const {
  const fs::path copy = options_.output / "tokenizer.model";
  if (fs::exists(copy)) {
    const std::string hash = hash_file(copy);
    const bool replaceable = hash == tokenizer_.hash() || (earlier && earlier->tokenizer_hash() == hash);
    expect_input(replaceable,
                 concat(copy.string(), ": is another tokenizer than ", options_.tokenizer.string(),
                        ", whose copy has to go there; choose another folder or move it away"));
  }
  if (options_.overwrite) return remove_prepared_files(options_.output);
  expect_input(!has_shards(options_.output),
               concat(options_.output.string(),
                      ": holds token shards of unknown origin (no manifest.json); choose "
                      "another folder, or --overwrite to replace them"));
}

// Loads the state of an unfinished run, or returns the manifest of a finished one.
std::optional<CorpusManifest> Preparation::find_earlier_work() {
  if (options_.overwrite) {
    start_over(earlier_manifest(options_.output));
    return std::nullopt;
  }
  auto manifest = read_corpus_manifest(options_.output);
  auto state = read_prepare_state(options_.output);
  if (manifest) {
    for (const TextSource& source : sources_) {
      expect_input(source.path != "-",
                   concat(options_.output.string(),
                          ": holds a finished corpus, and standard input can't be compared with "
                          "what it was made from; choose another folder, or --overwrite to make it again"));
    }
    expect_same_identity(manifest->identity, state_.identity, options_.output);
    expect_skipping_fits(manifest->counts);
    expect_shards(options_.output, manifest->shards);
    remove_prepare_state(options_.output);
    remove_validation_parts(options_.output);
    return manifest;
  }
  if (state) {
    expect_same_identity(state->identity, state_.identity, options_.output);
    expect_skipping_fits(state->counts);
    expect_shards(options_.output, state->shards);
    expect_shards(options_.output, state->validation_parts);
    state_ = std::move(*state);
    log_info(concat("going on in ", options_.output.string(), " after ",
                    counted(state_.counts.documents, "document"), ", ",
                    counted(state_.counts.tokens, "token")));
  } else {
    start_over(std::nullopt);
  }
  return std::nullopt;
}

void Preparation::write_all() {
  if (options_.validation_documents > 0 && !state_.limit) select_validation_documents();
  write_prepare_state(options_.output, state_);
  resume_ = position_ = state_.next;
  counts_ = state_.counts;
  write_segments();
}

// Finished shards are kept for the next run; a run that has none leaves nothing.
void Preparation::clean_up_after_failure(bool made_folder) const {
  if (!state_.shards.empty()) {
    log_info(concat(options_.output.string(), ": ", state_.shards.size(),
                    " finished shards are kept; the same command goes on from there"));
    return;
  }
  remove_prepared_files(options_.output);
  std::error_code error;
  if (made_folder) fs::remove(options_.output, error);
}

CorpusManifest Preparation::run() {
  const bool made_folder = !fs::exists(options_.output);
  make_folders(options_.output);
  const FolderLock lock(options_.output);
  state_.identity = corpus_identity(options_, tokenizer_, sources_);
  if (auto complete = find_earlier_work()) {
    log_info(concat(options_.output.string(), ": is complete already; nothing to do"));
    return std::move(*complete);
  }
  try {
    write_all();
    return finish();
  } catch (...) {
    segment_.reset();
    progress_.reset();
    clean_up_after_failure(made_folder);
    throw;
  }
}

void check_options(const PrepareOptions& options) {
  expect_input(options.shard_tokens >= 1, "--shard-tokens must be at least 1");
  expect_input(options.validation_fraction >= 0 && options.validation_fraction < 1,
               "--validation-fraction must be at least 0 and below 1");
  expect_input(options.validation_documents >= 0, "--validation-documents must not be negative");
  expect_input(options.validation_fraction == 0 || options.validation_documents == 0,
               "--validation-fraction and --validation-documents can't both be given");
  expect_input(options.threads >= 0 && options.threads <= 1024,
               "--threads must be from 1 to 1024, or 0 for one a core");
  expect_input(!options.output.empty(), "no output folder given");
}

void check_sources(const PrepareOptions& options, const std::vector<TextSource>& sources) {
  for (const TextSource& source : sources) {
    expect_input(source.path != "-" || options.validation_documents == 0,
                 "--validation-documents reads the input twice, which standard input does not allow; use "
                 "--validation-fraction");
    const bool own_file =
        source.path.parent_path().lexically_normal() == options.output.lexically_normal() &&
        (source.path.filename() == "manifest.json" || source.path.filename() == "prepare-state.json");
    expect_input(
        !own_file,
        concat(source.name, ": is a file of the output folder, not text; keep input and output apart"));
  }
}

void check_tokenizer(const PrepareOptions& options, const Tokenizer& tokenizer) {
  const std::string name = options.tokenizer.string();
  expect_input(tokenizer.eos_id() >= 0, concat(name, ": has no </s>, which has to end every document"));
  expect_input(!options.bos || tokenizer.bos_id() >= 0,
               concat(name, ": has no <s> to begin documents with; use --no-bos"));
  if (!tokenizer.info().inexact.empty()) {
    log_warning(concat(name, ": text can't always be given back exactly: ", tokenizer.info().inexact));
  }
}

}  // namespace

CorpusManifest prepare_corpus(const PrepareOptions& options) {
  check_options(options);
  const Tokenizer tokenizer(options.tokenizer);
  check_tokenizer(options, tokenizer);
  auto sources = find_text_sources(options.inputs, options.format);
  check_sources(options, sources);
  return Preparation(options, tokenizer, std::move(sources)).run();
}

}  // namespace transxssm
