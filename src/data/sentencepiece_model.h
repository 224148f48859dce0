// What a SentencePiece .model file says about itself, read from its protocol buffer: the library hides most
// of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace transxssm {

// sentencepiece_model.proto; a default is what a missing field means.
struct SentencePieceModel {
  enum class PieceType { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
  struct Piece {
    std::string text;
    PieceType type = PieceType::normal;
  };
  std::vector<Piece> pieces;
  int model_type = 1;  // 1 unigram, 2 bpe, 3 word, 4 char
  bool byte_fallback = false;
  bool whitespace_as_suffix = false;
  std::string normalization;
  bool has_character_map = false;  // characters are replaced before encoding
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

// Throws std::runtime_error when `bytes` is not such a protocol buffer.
SentencePieceModel parse_sentencepiece_model(std::string_view bytes);

// `bytes` with the dummy prefix switched off.
std::string without_dummy_prefix(std::string bytes);

}  // namespace transxssm
