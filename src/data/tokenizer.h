// SentencePiece models: text to ids and back, exactly.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace transxssm {

// What `tokenizer info` shows.
struct TokenizerInfo {
  std::string type;           // bpe, unigram, word or char
  std::string normalization;  // name of the rule
  bool byte_fallback = false;
  bool dummy_prefix = false;  // a space is put before the text
  int32_t byte_pieces = 0;
  int32_t control_pieces = 0;
  int32_t user_defined_pieces = 0;
  std::string longest_piece;
  std::string inexact;  // why decode(encode(text)) may differ from text; empty when it never does
};

class Tokenizer {
 public:
  explicit Tokenizer(const std::filesystem::path& model);  // throws InputError when missing or not a model
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;

  // Ids of `text` without BOS or EOS. decode(encode(text)) == text for any valid UTF-8, U+2581 included, with
  // the models that `tokenizer train` makes; a foreign model that cannot promise it says why in
  // info().inexact. Throws InputError on invalid UTF-8. May be called from several threads at a time.
  std::vector<int32_t> encode(std::string_view text) const;
  void encode(std::string_view text, std::vector<int32_t>& append_to) const;

  // Bytes of the ids; control tokens give nothing. Throws InputError on an id outside the vocabulary.
  std::string decode(const std::vector<int32_t>& ids) const;
  std::string decode_piece(int32_t id) const;  // bytes of one id, for streaming (may be part of a character)

  // The piece as the model spells it ("▁the", "<0x0A>"). Throws InputError on an id outside the vocabulary.
  const std::string& piece(int32_t id) const;

  int32_t vocab_size() const;
  int32_t unk_id() const;  // -1 where the model has none, as for the next three
  int32_t bos_id() const;
  int32_t eos_id() const;
  int32_t pad_id() const;
  std::string hash() const;  // of the model file
  const TokenizerInfo& info() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// UTF-8 bytes behind each id, none behind control tokens.
std::vector<int32_t> bytes_per_token(const Tokenizer& tokenizer);

}  // namespace transxssm
