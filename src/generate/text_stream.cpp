#include "generate/text_stream.h"

#include <algorithm>

#include "data/utf8.h"

namespace transxssm {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Whether more bytes can make a character of these few.
bool may_become_utf8(std::string_view begun) {
  // The least and the largest continuations: if neither fits, none does, since the valid second bytes are a
  // range that holds 0x80, 0xBF or 0x90.
  for (const char next : {'\x80', '\x90', '\xBF'}) {
    std::string trial(begun);
    while (trial.size() < 4) {
      trial += next;
      if (find_invalid_utf8(trial) == std::string_view::npos) return true;
    }
  }
  return false;
}

// Moves whole characters from `bytes` to `text`; at the end of the stream what is left, too.
void take_characters(std::string& bytes, std::string& text, bool at_end) {
  size_t invalid = 0;
  while ((invalid = find_invalid_utf8(bytes)) != std::string::npos) {
    text.append(bytes, 0, invalid);
    bytes.erase(0, invalid);
    if (!at_end && may_become_utf8(bytes)) return;
    text += kReplacement;
    bytes.erase(0, 1);
  }
  text += bytes;
  bytes.clear();
}

// Length of the longest end of `text` with which a stop string begins.
size_t begun_stop(std::string_view text, const std::vector<std::string>& stops) {
  size_t longest = 0;
  for (const std::string& stop : stops)
    for (size_t n = std::min(text.size(), stop.size() - 1); n > longest; --n)
      if (text.ends_with(std::string_view(stop).substr(0, n))) longest = n;
  return longest;
}

}  // namespace

TextStream::TextStream(const Tokenizer& tokenizer, bool follows_text, std::vector<std::string> stops)
    : tokenizer_(tokenizer), follows_text_(follows_text), stops_(std::move(stops)) {}

std::string TextStream::push(int32_t id) {
  if (stopped_) return {};
  const std::string piece = follows_text_ ? tokenizer_.decode_piece(id) : tokenizer_.decode({id});
  follows_text_ = follows_text_ || !tokenizer_.decode_piece(id).empty();
  bytes_ += piece;
  take_characters(bytes_, text_, /*at_end=*/false);
  return release(begun_stop(text_, stops_));
}

std::string TextStream::finish() {
  if (stopped_) return {};
  take_characters(bytes_, text_, /*at_end=*/true);
  return release(0);
}

// All of the text before a stop string, else all but the last `held` bytes.
std::string TextStream::release(size_t held) {
  size_t end = std::string::npos;
  for (const std::string& stop : stops_) end = std::min(end, text_.find(stop));
  stopped_ = end != std::string::npos;
  if (!stopped_) end = text_.size() - held;
  std::string out = text_.substr(0, end);
  text_.erase(0, end);
  return out;
}

}  // namespace transxssm
