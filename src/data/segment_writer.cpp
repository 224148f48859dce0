#include "data/segment_writer.h"

#include <cstdio>
#include <utility>

#include "core/atomic_file.h"
#include "core/check.h"
#include "core/hash.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

constexpr const char* kPartsFolder = "val-parts";

std::string numbered(const char* folder, size_t number) {
  char name[64];
  std::snprintf(name, sizeof name, "%s/shard-%05zu", folder, number);
  return name;
}

// Files that TokenFileWriter makes, under their final or temporary names.
bool is_ours(const fs::path& file) {
  const std::string name = file.filename().string();
  const auto ends = [&](const char* ending) { return name.ends_with(ending); };
  return ends(".bin") || ends(".idx") || ends(".bin.tmp") || ends(".idx.tmp");
}

void remove_shards(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (is_ours(entry.path())) files.push_back(entry.path());
  }
  for (const fs::path& file : files) fs::remove(file, error);
  fs::remove(folder, error);  // only when it is empty
}

}  // namespace

struct SegmentWriter::Output {
  Output(const fs::path& prefix, int64_t vocab_size) : writer(prefix, vocab_size) {}

  ShardRecord finish(const fs::path& folder) {
    writer.finish();
    record.documents = writer.num_documents();
    record.tokens = writer.num_tokens();
    record.bin_hash = hash_file(folder / (record.name + ".bin"));
    record.idx_hash = hash_file(folder / (record.name + ".idx"));
    return record;
  }

  TokenFileWriter writer;
  ShardRecord record;
};

SegmentWriter::SegmentWriter(fs::path folder, int64_t vocab_size, const PrepareState& state)
    : folder_(std::move(folder)),
      vocab_size_(vocab_size),
      next_shard_(state.shards.size()),
      next_part_(state.validation_parts.size()) {}

SegmentWriter::~SegmentWriter() = default;

std::unique_ptr<SegmentWriter::Output> SegmentWriter::open(const char* split, const char* folder,
                                                           size_t number) const {
  make_folders(folder_ / folder);
  const std::string name = numbered(folder, number);
  auto output = std::make_unique<Output>(folder_ / name, vocab_size_);
  output->record.split = split;
  output->record.name = name;
  return output;
}

void SegmentWriter::add(std::span<const int32_t> tokens, int64_t text_bytes, bool validation) {
  auto& output = validation ? validation_ : train_;
  if (!output)
    output = validation ? open("val", kPartsFolder, next_part_) : open("train", "train", next_shard_);
  output->writer.add_document(tokens);
  output->record.text_bytes += text_bytes;
}

int64_t SegmentWriter::num_tokens() const {
  return (train_ ? train_->writer.num_tokens() : 0) + (validation_ ? validation_->writer.num_tokens() : 0);
}

void SegmentWriter::finish(PrepareState& state) {
  if (train_) state.shards.push_back(train_->finish(folder_));
  if (validation_) state.validation_parts.push_back(validation_->finish(folder_));
}

std::vector<ShardRecord> gather_validation(const fs::path& folder, const std::vector<ShardRecord>& parts,
                                           int64_t shard_tokens, int64_t vocab_size) {
  std::vector<ShardRecord> shards;
  std::vector<int32_t> tokens;
  for (size_t next = 0; next < parts.size();) {
    ShardRecord record;
    record.split = "val";
    record.name = numbered("val", shards.size());
    make_folders(folder / "val");
    TokenFileWriter writer(folder / record.name, vocab_size);
    while (next < parts.size() &&
           (record.tokens == 0 || record.tokens + parts[next].tokens <= shard_tokens)) {
      const TokenFile part(folder / parts[next].name);
      for (int64_t d = 0; d < part.num_documents(); ++d) {
        tokens.resize(static_cast<size_t>(part.document_begin(d + 1) - part.document_begin(d)));
        part.read(part.document_begin(d), tokens);
        writer.add_document(tokens);
      }
      record.documents += parts[next].documents;
      record.tokens += parts[next].tokens;
      record.text_bytes += parts[next].text_bytes;
      ++next;
    }
    writer.finish();
    record.bin_hash = hash_file(folder / (record.name + ".bin"));
    record.idx_hash = hash_file(folder / (record.name + ".idx"));
    shards.push_back(std::move(record));
  }
  return shards;
}

void remove_validation_parts(const fs::path& folder) { remove_shards(folder / kPartsFolder); }

void remove_prepared_files(const fs::path& folder) {
  std::error_code error;
  // In this order, so that a crash in between leaves nothing that looks complete.
  fs::remove(folder / "manifest.json", error);
  remove_prepare_state(folder);
  for (const char* name : {"train", "val", kPartsFolder}) remove_shards(folder / name);
}

bool has_shards(const fs::path& folder) {
  for (const char* name : {"train", "val"}) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder / name, error)) {
      if (is_ours(entry.path())) return true;
    }
  }
  return false;
}

}  // namespace transxssm
