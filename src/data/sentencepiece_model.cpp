#include "data/sentencepiece_model.h"

#include <functional>

#include "core/check.h"

namespace transxssm {
namespace {

// A field of a protocol buffer message: a number (wire types 0, 1 and 5) or bytes (wire type 2).
struct ProtoField {
  uint64_t number = 0;  // the field's
  uint64_t value = 0;
  std::string_view bytes;
};

class ProtoReader {
 public:
  explicit ProtoReader(std::string_view bytes) : rest_(bytes) {}

  bool next(ProtoField& field) {
    if (rest_.empty()) return false;
    const uint64_t key = varint();
    field = {};
    field.number = key >> 3;
    switch (key & 7) {
      case 0:
        field.value = varint();
        break;
      case 1:
        take(8);
        break;
      case 2:
        field.bytes = take(varint());
        break;
      case 5:
        take(4);
        break;
      default:
        expect_input(false, "not a SentencePiece model");
    }
    return true;
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    expect_input(false, "not a SentencePiece model");
    return 0;
  }

  std::string_view take(uint64_t count) {
    expect_input(count <= rest_.size(), "not a SentencePiece model, or truncated");
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  std::string_view rest_;
};

void for_each_field(std::string_view bytes, const std::function<void(const ProtoField&)>& visit) {
  ProtoReader reader(bytes);
  ProtoField field;
  while (reader.next(field)) visit(field);
}

SentencePieceModel::Piece parse_piece(std::string_view bytes) {
  SentencePieceModel::Piece piece;
  for_each_field(bytes, [&](const ProtoField& field) {
    if (field.number == 1) piece.text = field.bytes;
    if (field.number == 3) {
      expect_input(field.value >= 1 && field.value <= 6, concat("piece of the unknown type ", field.value));
      piece.type = static_cast<SentencePieceModel::PieceType>(field.value);
    }
  });
  return piece;
}

}  // namespace

SentencePieceModel parse_sentencepiece_model(std::string_view bytes) {
  SentencePieceModel model;
  const auto trainer_field = [&](const ProtoField& field) {
    if (field.number == 3) model.model_type = static_cast<int>(field.value);
    if (field.number == 24) model.whitespace_as_suffix = field.value != 0;
    if (field.number == 35) model.byte_fallback = field.value != 0;
  };
  const auto normalizer_field = [&](const ProtoField& field) {
    if (field.number == 1) model.normalization = field.bytes;
    if (field.number == 2) model.has_character_map = !field.bytes.empty();
    if (field.number == 3) model.add_dummy_prefix = field.value != 0;
    if (field.number == 4) model.remove_extra_whitespaces = field.value != 0;
    if (field.number == 5) model.escape_whitespaces = field.value != 0;
  };
  for_each_field(bytes, [&](const ProtoField& field) {
    if (field.number == 1) model.pieces.push_back(parse_piece(field.bytes));
    if (field.number == 2) for_each_field(field.bytes, trainer_field);
    if (field.number == 3) for_each_field(field.bytes, normalizer_field);
  });
  expect_input(!model.pieces.empty(), "not a SentencePiece model: it has no pieces");
  return model;
}

std::string without_dummy_prefix(std::string bytes) {
  // A message that occurs again is merged into the one before: ModelProto.normalizer_spec.add_dummy_prefix =
  // false.
  bytes.append("\x1a\x02\x18\x00", 4);
  return bytes;
}

}  // namespace transxssm
