// What Python's str does to text, for prompts and continuations that equal those of programs written in it.
// Text is valid UTF-8.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace transxssm {

// str.isspace of one character.
bool is_python_space(char32_t character);

// Bytes of `text` without the white space at its end, as str.rstrip leaves them.
size_t rstripped_size(std::string_view text);

std::string python_strip(std::string_view text);

// The first character in upper case, all others in lower case.
std::string python_capitalize(std::string_view text);

// len(): characters, not bytes.
int64_t python_length(std::string_view text);

}  // namespace transxssm
