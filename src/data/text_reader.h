// Documents from text and JSON lines, plain, gzip or zstd: which files, how they are cut into blocks (the
// unit of parallel work, the same on every run) and the documents of a block.
//
// A plain-text source is one document. A line of a JSONL source is one document, the string under one field;
// blank lines are skipped. A document of more than kMaxDocumentBytes is cut into several at the end of a line
// or before white space, so that memory stays bounded.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/byte_stream.h"

namespace transxssm {

constexpr size_t kMaxDocumentBytes = size_t{16} << 20;
constexpr size_t kMaxJsonLineBytes = size_t{64} << 20;
constexpr size_t kBlockBytes = size_t{256}
                               << 10;  // JSON lines are gathered until a block has this many bytes

enum class TextFormat { automatic, text, jsonl };

// "auto", "text" or "jsonl"; anything else is an InputError.
TextFormat parse_text_format(const std::string& name);

struct TextSource {
  std::filesystem::path path;  // "-": standard input
  std::string name;            // for messages and the manifest
  TextFormat format =
      TextFormat::automatic;  // automatic for standard input only: its first character decides
  uint64_t bytes = 0;         // size on disk; 0 for standard input
};

// The sources that `inputs` (files, globs, folders, "-") stand for, in the order given, folders and globs
// sorted by name, each file once. A folder gives, at any depth, its files with a known ending (.txt .text .md
// .jsonl .ndjson .json, plain or with .gz or .zst), or all its files when `format` is not automatic. Hidden
// files are left out. Throws InputError when an input is missing or nothing is found.
std::vector<TextSource> find_text_sources(const std::vector<std::string>& inputs, TextFormat format);

// For a message: "a.txt", "a.txt, b.txt, c.txt and 7 more".
std::string names_of(const std::vector<TextSource>& sources);

// A stretch of a source: whole JSON lines, or (part of) a plain-text document.
struct TextBlock {
  size_t source = 0;       // index into the sources
  int64_t index = 0;       // of this block within its source
  int64_t first_line = 1;  // line of the source that starts this block, from 1
  TextFormat format = TextFormat::text;
  bool continued = false;            // goes on with a document that was cut
  std::string bytes;                 // without a final line break for JSONL
  std::optional<std::string> error;  // the source is damaged from here on: an over-long line
  std::string digest;                // standard input only: of all bytes up to the end of this block
  uint64_t consumed = 0;             // bytes on disk taken by the reader so far
};

// Reads the blocks of sources one after the other.
class BlockReader {
 public:
  explicit BlockReader(std::vector<TextSource> sources, size_t first_source = 0);
  ~BlockReader();
  std::optional<TextBlock> next();

 private:
  void open_source();
  void fill(size_t wanted);
  TextBlock take(size_t bytes);
  std::optional<TextBlock> next_lines();
  std::optional<TextBlock> next_text();
  TextBlock overlong_line();

  std::vector<TextSource> sources_;
  size_t source_;
  std::unique_ptr<ByteStream> stream_;
  TextFormat format_ = TextFormat::text;
  std::string buffer_;  // read but not given out
  bool ended_ = false;  // the stream has no more bytes
  int64_t block_ = 0;
  int64_t line_ = 1;
  std::string digest_;
  uint64_t consumed_before_ = 0;
};

// One document of a block, or what is wrong with it.
struct TextDocument {
  int64_t line = 0;        // where it starts in its source, from 1
  std::string_view text;   // valid UTF-8, may be empty; valid during the call
  bool continued = false;  // the next part of a document that was cut
  std::string error;       // not empty: this line (or text) is bad, and why
};

// Bytes on disk of the sources from `first` on; 0 when unknown (standard input).
uint64_t total_bytes(const std::vector<TextSource>& sources, size_t first = 0);

// Calls `visit` for each document of `block`, in order.
void for_each_document(const TextBlock& block, const std::string& text_field,
                       const std::function<void(const TextDocument&)>& visit);

// Where to cut `text` so that the front part has at most `limit` bytes: after the last line break in the
// second half of the front, else before its last space, else at a character border.
size_t cut_position(std::string_view text, size_t limit);

}  // namespace transxssm
