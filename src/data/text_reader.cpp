// Cutting of sources into blocks.
#include "data/text_reader.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "core/hash.h"
#include "data/utf8.h"

namespace transxssm {
namespace {

constexpr size_t kReadBytes = size_t{1} << 20;

int64_t count_lines(std::string_view text) { return std::count(text.begin(), text.end(), '\n'); }

TextFormat format_of_first_character(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && text[first] == '{' ? TextFormat::jsonl : TextFormat::text;
}

}  // namespace

size_t cut_position(std::string_view text, size_t limit) {
  if (text.size() <= limit) return text.size();
  const std::string_view front = text.substr(0, limit);
  const size_t line_break = front.rfind('\n');
  if (line_break != std::string_view::npos && line_break >= limit / 2) return line_break + 1;
  const size_t space = front.rfind(' ');
  if (space != std::string_view::npos && space > 0) return space;
  return utf8_border(text, limit);
}

uint64_t total_bytes(const std::vector<TextSource>& sources, size_t first) {
  uint64_t total = 0;
  for (size_t i = first; i < sources.size(); ++i) {
    if (sources[i].path == "-") return 0;
    total += sources[i].bytes;
  }
  return total;
}

BlockReader::BlockReader(std::vector<TextSource> sources, size_t first_source)
    : sources_(std::move(sources)), source_(first_source) {}

BlockReader::~BlockReader() = default;

void BlockReader::open_source() {
  const TextSource& source = sources_[source_];
  stream_ = open_byte_stream(source.path, source.name);
  buffer_.clear();
  ended_ = false;
  block_ = 0;
  line_ = 1;
  digest_.clear();
  fill(1);
  format_ = source.format == TextFormat::automatic ? format_of_first_character(buffer_) : source.format;
}

// Reads until the buffer holds `wanted` bytes or the stream has ended.
void BlockReader::fill(size_t wanted) {
  while (!ended_ && buffer_.size() < wanted) {
    const size_t before = buffer_.size();
    buffer_.resize(before + kReadBytes);
    const size_t count = stream_->read(buffer_.data() + before, kReadBytes);
    buffer_.resize(before + count);
    ended_ = count < kReadBytes;
  }
}

// The first `bytes` of the buffer as a block.
TextBlock BlockReader::take(size_t bytes) {
  TextBlock block;
  block.source = source_;
  block.index = block_++;
  block.first_line = line_;
  block.format = format_;
  block.consumed = consumed_before_ + stream_->consumed();
  block.bytes = buffer_.substr(0, bytes);
  buffer_.erase(0, bytes);
  line_ += count_lines(block.bytes);
  if (sources_[source_].path == "-") {
    const std::string chained = digest_ + hash_bytes(block.bytes.data(), block.bytes.size());
    digest_ = hash_bytes(chained.data(), chained.size());
    block.digest = digest_;
  }
  return block;
}

std::optional<TextBlock> BlockReader::next_lines() {
  fill(kBlockBytes);
  size_t searched = std::min(buffer_.size(), kBlockBytes);
  if (searched > 0) --searched;  // a line that ends exactly there fits
  while (true) {
    const size_t line_break = buffer_.find('\n', searched);
    if (line_break != std::string::npos) return take(line_break + 1);
    if (ended_) break;
    if (buffer_.size() > kMaxJsonLineBytes) return overlong_line();
    searched = buffer_.size();
    fill(buffer_.size() + 1);
  }
  if (buffer_.empty()) return std::nullopt;
  return take(buffer_.size());
}

// The lines before the one that is too long, or that one itself, dropped up to its end.
TextBlock BlockReader::overlong_line() {
  const size_t last_break = buffer_.rfind('\n');
  if (last_break != std::string::npos) return take(last_break + 1);
  size_t dropped = 0;
  size_t line_break = std::string::npos;
  while (line_break == std::string::npos && !(ended_ && buffer_.empty())) {
    dropped += buffer_.size();
    buffer_.clear();
    fill(1);
    line_break = buffer_.find('\n');
  }
  const size_t rest = line_break == std::string::npos ? buffer_.size() : line_break + 1;
  TextBlock block = take(rest);
  block.error = concat("a line of ", dropped + rest, " bytes; at most ", kMaxJsonLineBytes, " can be read");
  block.bytes.clear();
  return block;
}

std::optional<TextBlock> BlockReader::next_text() {
  fill(kMaxDocumentBytes + 1);
  if (buffer_.empty() && block_ > 0) return std::nullopt;
  TextBlock block = take(cut_position(buffer_, kMaxDocumentBytes));
  block.continued = block.index > 0;
  return block;
}

std::optional<TextBlock> BlockReader::next() {
  while (source_ < sources_.size()) {
    if (!stream_) open_source();
    auto block = format_ == TextFormat::jsonl ? next_lines() : next_text();
    if (block) return block;
    consumed_before_ += stream_->consumed();
    stream_.reset();
    ++source_;
  }
  return std::nullopt;
}

}  // namespace transxssm
