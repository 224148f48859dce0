#include "export/tokenizer_files.h"

#include <array>

#include "core/atomic_file.h"
#include "core/check.h"

namespace transxssm {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

const std::array kSamples = {
    std::string("The river ran past the mill, and nobody said a word."),
    std::string("  leading, trailing and   repeated spaces\t\n\n\r\n "),
    std::string("<s></s><pad><unk> <0x41><0xFF> [INST] <|endoftext|>"),
    std::string("NUL \0 in the middle, and two \0\0 at the end\0", 42),
    std::string("U+2581 \xE2\x96\x81 is a space to SentencePiece: \xE2\x96\x81\xE2\x96\x81the\xE2\x96\x81"),
    std::string(
        "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7 \xF0\x9F\x8F\xB3\xEF\xB8"
        "\x8F\xE2\x80\x8D\xF0\x9F\x8C\x88 \xE2\x9D\xA4\xEF\xB8\x8F"),
    std::string("\xD0\xBC\xD0\xB8\xD1\x80 \xE4\xB8\x96\xE7\x95\x8C \xD8\xB9\xD8\xA7\xD9\x84\xD9\x85 "
                "\xED\x95\x9C\xEA\xB5\xAD \xE0\xA4\xB9\xE0\xA4\xBF a\xCC\x81 \xC3\xA1 \xEF\xAC\x81"),
    std::string("\xEF\xBB\xBF"
                "BOM, \xC2\xA0no-break space, \xE2\x80\x8Bzero width, \xC2\x85, \xEF\xBF\xBD"),
    std::string("def f(x):\n    return {\"a\": x ** 2, 'b': [1, 2]}  # 3.14159e-10\n"),
    std::string("1234567890 0.000001 \xC2\xBD \xE2\x85\xA7"),
};

json special(const Tokenizer& tokenizer, int32_t id) {
  return id < 0 ? json(nullptr) : json(tokenizer.piece(id));
}

}  // namespace

void write_tokenizer(const fs::path& folder, const fs::path& model, const Tokenizer& tokenizer) {
  write_file_atomically(folder / kSentencePieceName, read_file(model));
  const json config = {
      {"tokenizer_class", kOwnTokenizerClass},
      {"auto_map", {{"AutoTokenizer", {concat("tokenization_transxssm.", kOwnTokenizerClass), nullptr}}}},
      {"bos_token", special(tokenizer, tokenizer.bos_id())},
      {"eos_token", special(tokenizer, tokenizer.eos_id())},
      {"unk_token", special(tokenizer, tokenizer.unk_id())},
      {"pad_token", special(tokenizer, tokenizer.pad_id())},
      {"add_bos_token", tokenizer.bos_id() >= 0},
      {"add_eos_token", false},
      {"padding_side", "left"},
      // What the program does beyond the library: see the class.
      {"exact", tokenizer.info().inexact.empty()},
      {"dummy_prefix", tokenizer.info().dummy_prefix},
  };
  write_file_atomically(folder / "tokenizer_config.json", config.dump(2) + "\n");
}

json tokenizer_samples(const Tokenizer& tokenizer) {
  json samples = json::array();
  for (const std::string& text : kSamples)
    samples.push_back({{"text", text}, {"ids", tokenizer.encode(text)}});
  return samples;
}

}  // namespace transxssm
