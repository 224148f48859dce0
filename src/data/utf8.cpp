#include "data/utf8.h"

#include <cstdint>
#include <cstring>

namespace transxssm {
namespace {

// Bytes of the character at the front of `s`, or 0 when it is not valid (Unicode 15, table 3-7).
size_t character_length(const unsigned char* s, size_t available) {
  const unsigned char lead = s[0];
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (available < length) return 0;
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  if (s[1] < low || s[1] > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if ((s[i] & 0xC0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

size_t find_invalid_utf8(std::string_view text) {
  const auto* s = reinterpret_cast<const unsigned char*>(text.data());
  size_t i = 0;
  while (i < text.size()) {
    // Eight ASCII bytes at a time: most text is ASCII.
    uint64_t word = 0;
    while (i + 8 <= text.size() && (std::memcpy(&word, s + i, 8), (word & 0x8080808080808080ULL) == 0))
      i += 8;
    if (i == text.size()) break;
    const size_t length = character_length(s + i, text.size() - i);
    if (length == 0) return i;
    i += length;
  }
  return std::string_view::npos;
}

}  // namespace transxssm
