#include "data/tokenizer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <mutex>
#include <span>
#include <utility>

#include <sentencepiece_processor.h>

#include "core/atomic_file.h"
#include "core/check.h"
#include "core/hash.h"
#include "data/sentencepiece_model.h"
#include "data/utf8.h"
#include "data/word_cache.h"

namespace transxssm {
namespace {

using PieceType = SentencePieceModel::PieceType;

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";       // U+2581, a space in pieces
constexpr std::string_view kUnknownSurface = " \xE2\x81\x87 ";  // what SentencePiece decodes <unk> to
// SentencePiece needs about 170 bytes of memory a byte; longer stretches without a place to cut are cut
// anyway.
constexpr size_t kMaxSegmentBytes = size_t{64} << 10;
constexpr size_t kMaxInexactBytes = size_t{256} << 10;

std::string replace_space_symbol(std::string_view piece) {
  std::string text;
  for (size_t i = 0; i < piece.size();) {
    const bool space = piece.substr(i, kSpaceSymbol.size()) == kSpaceSymbol;
    text += space ? ' ' : piece[i];
    i += space ? kSpaceSymbol.size() : 1;
  }
  return text;
}

// Which neighbours occur inside a piece. Between two bytes that never do, text may be cut and its parts
// encoded alone: neither a merge nor an edge of the unigram lattice can cross. Bytes beyond ASCII are one
// class.
class CutTable {
 public:
  explicit CutTable(const SentencePieceModel& model) {
    joined_[kBeyondAscii][kBeyondAscii] = true;  // also keeps characters whole
    for (const auto& piece : model.pieces) {
      const bool matches_text = piece.type == PieceType::normal || piece.type == PieceType::user_defined ||
                                piece.type == PieceType::unused;
      if (!matches_text) continue;
      const std::string text = replace_space_symbol(piece.text);
      for (size_t i = 1; i < text.size(); ++i) joined_[class_of(text[i - 1])][class_of(text[i])] = true;
    }
  }
  bool may_cut(char before, char after) const { return !joined_[class_of(before)][class_of(after)]; }

 private:
  static constexpr size_t kBeyondAscii = 128;
  static size_t class_of(char c) { return std::min<size_t>(static_cast<unsigned char>(c), kBeyondAscii); }
  std::array<std::array<bool, kBeyondAscii + 1>, kBeyondAscii + 1> joined_{};
};

// The byte that a piece named like "<0x0A>" stands for.
char byte_value(const std::string& piece) {
  unsigned value = 0;
  const bool framed = piece.size() == 6 && piece.starts_with("<0x") && piece.back() == '>';
  const char* const digits = piece.data() + 3;
  expect(framed && std::from_chars(digits, digits + 2, value, 16).ptr == digits + 2,
         concat("byte piece with the name ", piece));
  return static_cast<char>(value);
}

std::string type_name(int model_type) {
  static constexpr std::array kNames = {"unigram", "bpe", "word", "char"};
  const bool known = model_type >= 1 && model_type <= 4;
  return known ? kNames[static_cast<size_t>(model_type) - 1] : concat("type ", model_type);
}

}  // namespace

struct Tokenizer::Impl {
  explicit Impl(const std::filesystem::path& path);
  void load(const std::string& bytes);
  void read_pieces();
  std::string why_inexact() const;

  void encode_exactly(std::string_view text, WordCache& cache, std::vector<int32_t>& out) const;
  void encode_segment(std::string_view segment, WordCache& cache, std::vector<int32_t>& out) const;
  void encode_as_library(std::string_view text, std::vector<int32_t>& out) const;
  std::vector<int32_t> run_library(std::string_view text) const;
  void check_id(int32_t id) const;

  std::unique_ptr<WordCache> borrow_cache();
  void give_back(std::unique_ptr<WordCache> cache);

  std::filesystem::path path;
  std::string hash;
  SentencePieceModel model;
  sentencepiece::SentencePieceProcessor processor;
  std::unique_ptr<CutTable> cuts;
  std::array<int32_t, 256> byte_ids{};
  std::vector<std::string> decoded;  // by id
  TokenizerInfo info;

  std::mutex mutex;
  std::vector<std::unique_ptr<WordCache>> caches;  // as many as threads encoded at the same time
};

Tokenizer::Impl::Impl(const std::filesystem::path& file) : path(file) {
  const std::string bytes = read_file(path);
  hash = hash_bytes(bytes.data(), bytes.size());
  try {
    load(bytes);
  } catch (const std::exception& error) {
    throw InputError(concat(path.string(), ": is not a usable SentencePiece model: ", error.what()));
  }
}

void Tokenizer::Impl::load(const std::string& bytes) {
  model = parse_sentencepiece_model(bytes);
  read_pieces();
  info.type = type_name(model.model_type);
  info.normalization = model.normalization;
  info.byte_fallback = model.byte_fallback;
  info.dummy_prefix = model.add_dummy_prefix;
  info.inexact = why_inexact();
  // The exact path puts the dummy prefix itself, once, not before every segment.
  const auto status =
      processor.LoadFromSerializedProto(info.inexact.empty() ? without_dummy_prefix(bytes) : bytes);
  expect(status.ok(), status.ToString());
  cuts = std::make_unique<CutTable>(model);
}

void Tokenizer::Impl::read_pieces() {
  byte_ids.fill(-1);
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const auto& piece = model.pieces[id];
    std::string text;
    switch (piece.type) {
      case PieceType::control:
        ++info.control_pieces;
        break;
      case PieceType::unknown:
        text = kUnknownSurface;
        break;
      case PieceType::byte:
        ++info.byte_pieces;
        text = byte_value(piece.text);
        byte_ids[static_cast<unsigned char>(text[0])] = static_cast<int32_t>(id);
        break;
      case PieceType::user_defined:
        ++info.user_defined_pieces;
        [[fallthrough]];
      case PieceType::normal:
      case PieceType::unused:
        text = replace_space_symbol(piece.text);
        if (piece.text.size() > info.longest_piece.size()) info.longest_piece = piece.text;
    }
    decoded.push_back(std::move(text));
  }
}

std::string Tokenizer::Impl::why_inexact() const {
  const bool all_bytes = std::find(byte_ids.begin(), byte_ids.end(), -1) == byte_ids.end();
  if (!model.byte_fallback || !all_bytes)
    return "no byte fallback: characters outside the vocabulary become <unk>";
  if (model.has_character_map) return concat("normalization ", model.normalization, " replaces characters");
  if (model.remove_extra_whitespaces) return "repeated, leading and trailing spaces are removed";
  if (!model.escape_whitespaces) return "spaces are not escaped";
  if (model.add_dummy_prefix && model.whitespace_as_suffix) return "a space is put after the text";
  return {};
}

std::unique_ptr<WordCache> Tokenizer::Impl::borrow_cache() {
  const std::lock_guard lock(mutex);
  if (caches.empty()) return std::make_unique<WordCache>();
  auto cache = std::move(caches.back());
  caches.pop_back();
  return cache;
}

void Tokenizer::Impl::give_back(std::unique_ptr<WordCache> cache) {
  const std::lock_guard lock(mutex);
  caches.push_back(std::move(cache));
}

std::vector<int32_t> Tokenizer::Impl::run_library(std::string_view text) const {
  std::vector<int> ids;
  const auto status = processor.Encode(text, &ids);
  expect(status.ok(), concat("SentencePiece: ", status.ToString()));
  return ids;
}

void Tokenizer::Impl::encode_segment(std::string_view segment, WordCache& cache,
                                     std::vector<int32_t>& out) const {
  const bool cacheable = segment.size() <= WordCache::kMaxBytes;
  if (cacheable) {
    const auto known = cache.find(segment);
    if (!known.empty()) {
      out.insert(out.end(), known.begin(), known.end());
      return;
    }
  }
  const std::vector<int32_t> ids = run_library(segment);
  if (cacheable) cache.store(segment, ids);
  out.insert(out.end(), ids.begin(), ids.end());
}

// U+2581 and NUL go out as byte pieces: the library takes the one for a space, and the other ends its
// strings.
void Tokenizer::Impl::encode_exactly(std::string_view text, WordCache& cache,
                                     std::vector<int32_t>& out) const {
  size_t begin = 0;
  const auto flush = [&](size_t end) {
    if (end > begin) encode_segment(text.substr(begin, end - begin), cache, out);
    begin = end;
  };
  const auto bytes_alone = [&](size_t position, size_t count) {
    flush(position);
    for (const char c : text.substr(position, count)) out.push_back(byte_ids[static_cast<unsigned char>(c)]);
    begin = position + count;
  };
  size_t i = 0;
  while (i < text.size()) {
    const char c = text[i];
    if (c == '\0') {
      bytes_alone(i++, 1);
    } else if (c == kSpaceSymbol[0] && text.substr(i, kSpaceSymbol.size()) == kSpaceSymbol) {
      bytes_alone(i, kSpaceSymbol.size());
      i += kSpaceSymbol.size();
    } else {
      const bool too_long = i - begin >= kMaxSegmentBytes && !is_utf8_continuation(c);
      if (i > begin && (cuts->may_cut(text[i - 1], c) || too_long)) flush(i);
      ++i;
    }
  }
  flush(text.size());
}

void Tokenizer::Impl::encode_as_library(std::string_view text, std::vector<int32_t>& out) const {
  while (!text.empty()) {
    size_t length = text.size();
    if (length > kMaxInexactBytes) {
      const size_t space = text.substr(0, kMaxInexactBytes).rfind(' ');
      length = space != std::string_view::npos && space > 0 ? space : utf8_border(text, kMaxInexactBytes);
    }
    const std::vector<int32_t> ids = run_library(text.substr(0, length));
    out.insert(out.end(), ids.begin(), ids.end());
    text.remove_prefix(length);
  }
}

void Tokenizer::Impl::check_id(int32_t id) const {
  const auto size = static_cast<int32_t>(decoded.size());
  if (id >= 0 && id < size) return;
  throw InputError(
      concat("token id ", id, " is outside the vocabulary of ", path.string(), " (0 to ", size - 1, ")"));
}

Tokenizer::Tokenizer(const std::filesystem::path& model) : impl_(std::make_unique<Impl>(model)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  encode(text, ids);
  return ids;
}

void Tokenizer::encode(std::string_view text, std::vector<int32_t>& append_to) const {
  const size_t invalid = find_invalid_utf8(text);
  expect_input(invalid == std::string_view::npos,
               concat("the text is not valid UTF-8 at byte ", invalid, "; only UTF-8 can be tokenized"));
  if (text.empty()) return;
  if (!impl_->info.inexact.empty()) return impl_->encode_as_library(text, append_to);
  auto cache = impl_->borrow_cache();
  if (impl_->model.add_dummy_prefix) {
    impl_->encode_exactly(concat(' ', text), *cache, append_to);
  } else {
    impl_->encode_exactly(text, *cache, append_to);
  }
  impl_->give_back(std::move(cache));
}

std::string Tokenizer::decode(const std::vector<int32_t>& ids) const {
  std::string text;
  bool at_start = impl_->model.add_dummy_prefix || impl_->model.remove_extra_whitespaces;
  for (const int32_t id : ids) {
    impl_->check_id(id);
    const std::string& piece = impl_->decoded[static_cast<size_t>(id)];
    const bool prefixed =
        at_start && impl_->model.pieces[static_cast<size_t>(id)].text.starts_with(kSpaceSymbol);
    text.append(piece, prefixed ? 1 : 0);
    if (!piece.empty()) at_start = false;
  }
  return text;
}

std::string Tokenizer::decode_piece(int32_t id) const {
  impl_->check_id(id);
  return impl_->decoded[static_cast<size_t>(id)];
}

const std::string& Tokenizer::piece(int32_t id) const {
  impl_->check_id(id);
  return impl_->model.pieces[static_cast<size_t>(id)].text;
}

int32_t Tokenizer::vocab_size() const { return static_cast<int32_t>(impl_->decoded.size()); }
int32_t Tokenizer::unk_id() const { return impl_->processor.unk_id(); }
int32_t Tokenizer::bos_id() const { return impl_->processor.bos_id(); }
int32_t Tokenizer::eos_id() const { return impl_->processor.eos_id(); }
int32_t Tokenizer::pad_id() const { return impl_->processor.pad_id(); }
std::string Tokenizer::hash() const { return impl_->hash; }
const TokenizerInfo& Tokenizer::info() const { return impl_->info; }

std::vector<int32_t> bytes_per_token(const Tokenizer& tokenizer) {
  std::vector<int32_t> bytes;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id)
    bytes.push_back(static_cast<int32_t>(tokenizer.decode_piece(id).size()));
  return bytes;
}

}  // namespace transxssm
