// Text from tokens as they come: whole characters, up to a stop string.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer.h"

namespace transxssm {

// A token may end inside a character, and a stop string may begin in one token and end in another. So text is
// held back until it is known to be whole and to belong to no stop string. Bytes that are not UTF-8 become
// U+FFFD.
class TextStream {
 public:
  // `follows_text`: tokens with text came before, so that a space at the front of the first piece is one.
  TextStream(const Tokenizer& tokenizer, bool follows_text, std::vector<std::string> stops);

  std::string push(int32_t id);              // text that is certain now
  std::string finish();                      // what was held back; none after a stop string
  bool stopped() const { return stopped_; }  // by a stop string, which is not part of the text

 private:
  std::string release(size_t held);

  const Tokenizer& tokenizer_;
  bool follows_text_;
  std::vector<std::string> stops_;
  std::string bytes_;  // not yet a whole character
  std::string text_;   // whole characters not yet given out
  bool stopped_ = false;
};

}  // namespace transxssm
