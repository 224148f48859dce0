#include "eval/python_text.h"

#include <clocale>
#include <cwctype>

#include "core/check.h"
#include "data/utf8.h"

namespace transxssm {
namespace {

// The character that starts at text[at], and its bytes.
struct Character {
  char32_t code = 0;
  size_t bytes = 1;
};

Character character_at(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1};
  const size_t bytes = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  char32_t code = first & (0xFFU >> (bytes + 1));
  for (size_t i = 1; i < bytes; ++i) code = (code << 6) | (byte(i) & 0x3F);
  return {code, bytes};
}

void append(std::string& to, char32_t code) {
  if (code < 0x80) {
    to += static_cast<char>(code);
    return;
  }
  const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  const unsigned lead = 0xFF00U >> (more + 1);  // 0xC0, 0xE0 or 0xF0 in its low byte
  to += static_cast<char>((lead & 0xFF) | (code >> (6 * more)));
  for (int i = more - 1; i >= 0; --i) to += static_cast<char>(0x80 | ((code >> (6 * i)) & 0x3F));
}

// The C library's tables of letters, which the program's own locale ("C") does not use.
locale_t letters() {
  static const locale_t found = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  expect(found != nullptr, "the C library has no locale C.UTF-8");
  return found;
}

}  // namespace

bool is_python_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

size_t rstripped_size(std::string_view text) {
  size_t size = text.size();
  while (size > 0) {
    const size_t start = utf8_border(text, size - 1);
    if (!is_python_space(character_at(text, start).code)) break;
    size = start;
  }
  return size;
}

std::string python_strip(std::string_view text) {
  text = text.substr(0, rstripped_size(text));
  while (!text.empty()) {
    const Character first = character_at(text, 0);
    if (!is_python_space(first.code)) break;
    text.remove_prefix(first.bytes);
  }
  return std::string(text);
}

std::string python_capitalize(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Character c = character_at(text, at);
    const auto code = static_cast<wint_t>(c.code);
    append(out, static_cast<char32_t>(at == 0 ? towupper_l(code, letters()) : towlower_l(code, letters())));
    at += c.bytes;
  }
  return out;
}

int64_t python_length(std::string_view text) {
  int64_t count = 0;
  for (const char byte : text) count += !is_utf8_continuation(byte);
  return count;
}

}  // namespace transxssm
