// UTF-8: validity and character borders.
#pragma once

#include <cstddef>
#include <string_view>

namespace transxssm {

// Offset of the first byte that does not belong to valid UTF-8 (RFC 3629: no overlong forms, no surrogates,
// at most U+10FFFF), or npos.
size_t find_invalid_utf8(std::string_view text);

// A byte inside a character, after its first.
inline bool is_utf8_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// The last character border at or before `position`, for valid UTF-8. Looks at no more than the four bytes a
// character may have, so that it also ends on text that is not valid.
inline size_t utf8_border(std::string_view text, size_t position) {
  size_t border = position;
  while (border > 0 && position - border < 4 && border < text.size() && is_utf8_continuation(text[border]))
    --border;
  return border;
}

}  // namespace transxssm
