// SentencePiece models: text to ids and back, exactly.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace transxssm {

class Tokenizer {
 public:
  explicit Tokenizer(const std::filesystem::path& model);  // throws InputError when missing or not a model
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;

  // Ids of `text` without BOS or EOS. decode(encode(text)) == text for any valid UTF-8, U+2581 included.
  // Throws InputError on invalid UTF-8.
  std::vector<int32_t> encode(std::string_view text) const;
  void encode(std::string_view text, std::vector<int32_t>& append_to) const;

  // Bytes of the ids; control tokens give nothing. Throws InputError on an id outside the vocabulary.
  std::string decode(const std::vector<int32_t>& ids) const;
  std::string decode_piece(int32_t id) const;  // bytes of one id, for streaming (may be part of a character)

  int32_t vocab_size() const;
  int32_t unk_id() const;
  int32_t bos_id() const;
  int32_t eos_id() const;
  int32_t pad_id() const;
  std::string hash() const;  // of the model file

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace transxssm
