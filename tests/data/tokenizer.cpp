// Tokenizer: exact round trips and the same ids as SentencePiece.
#include "data/tokenizer.h"

#include <cmath>
#include <unordered_map>

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include "support/catch.h"
#include "support/source_dir.h"
#include "text_fixture.h"

using namespace transxssm;

namespace {

std::string utf8(uint32_t c) {
  std::string out;
  const auto put = [&](uint32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) return std::string(1, static_cast<char>(c));
  if (c < 0x800) {
    put(0xC0 | c >> 6);
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 63));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 63));
    put(0x80 | (c >> 6 & 63));
  }
  put(0x80 | (c & 63));
  return out;
}

// Characters of all lengths, biased to those that tokenizers trip over.
std::string random_text(uint64_t seed, int length) {
  static const std::vector<std::string> odd = {
      " ",    "  ",    "\n",    "\t",     "\r\n",         "\xE2\x96\x81", std::string(1, '\0'), "<s>",
      "</s>", "<unk>", "<pad>", "<0x0A>", "\xE2\x96\x85", "\xEF\xBF\xBD", "\xEF\xBB\xBF",       "the",
      "work", "."};
  const Philox random(seed);
  std::string text;
  for (int i = 0; i < length; ++i) {
    const auto words = random.block(static_cast<uint64_t>(i));
    uint32_t c = words[1] % (words[2] % 2 == 0 ? 0x800 : 0x110000);
    if (c >= 0xD800 && c < 0xE000) c = 'x';
    text += words[0] % 3 == 0 ? utf8(c) : odd[words[1] % odd.size()];
  }
  return text;
}

std::vector<std::string> awkward_texts() {
  return {"",
          " ",
          "   ",
          "a",
          " a b  c   ",
          "\n",
          "\r\n\t\v\f",
          std::string(1, '\0'),
          std::string("a\0b\0", 4),
          "\xE2\x96\x81",
          "\xE2\x96\x81\xE2\x96\x81 \xE2\x96\x81",
          "a\xE2\x96\x81"
          "b",
          "\xE2\x96\x80\xE2\x96\x82",
          "<s> </s> <unk> <pad> <0x0A> <0xE2>",
          "naïve café “quoted” — 漢字かな 한국어 😀👩‍👩‍👧",
          "\xF4\x8F\xBF\xBF\xEF\xBF\xBF\xC2\x80\xDF\xBF\xE0\xA0\x80\xEE\x80\x80",
          std::string(70001, 'a'),
          std::string(9973, ' '),
          license_text()};
}

// A SentencePiece model that is not one of ours.
std::filesystem::path foreign_model(const ScratchFolder& folder,
                                    std::unordered_map<std::string, std::string> options) {
  options["input"] = (test::kSourceDir / "LICENSE").string();
  options["model_prefix"] = (folder / "foreign").string();
  options["minloglevel"] = "2";
  if (!options.contains("vocab_size")) options["vocab_size"] = "600";
  REQUIRE(sentencepiece::SentencePieceTrainer::Train(options).ok());
  return folder / "foreign.model";
}

std::vector<int> library_ids(const std::filesystem::path& model, const std::string& text) {
  sentencepiece::SentencePieceProcessor processor;
  REQUIRE(processor.Load(model.string()).ok());
  std::vector<int> ids;
  REQUIRE(processor.Encode(text, &ids).ok());
  return ids;
}

}  // namespace

TEST_CASE("tokenizer: decode(encode(text)) gives the bytes of any valid UTF-8") {
  const ScratchFolder folder;
  const auto type = GENERATE(as<std::string>{}, "bpe", "unigram");
  const Tokenizer tokenizer(small_tokenizer(folder, type));
  REQUIRE(tokenizer.info().inexact.empty());
  for (const std::string& text : awkward_texts()) REQUIRE(tokenizer.decode(tokenizer.encode(text)) == text);
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const std::string text = random_text(seed, 101);
    REQUIRE(tokenizer.decode(tokenizer.encode(text)) == text);
  }
}

TEST_CASE("tokenizer: ids are those of SentencePiece on the whole text, BPE") {
  const ScratchFolder folder;
  const auto model = small_tokenizer(folder);
  const Tokenizer tokenizer(model);
  REQUIRE(tokenizer.encode(license_text()) == library_ids(model, license_text()));
  for (int64_t i = 0; i < 50; ++i) {
    std::string text = sample_document(i);
    text.resize(
        std::min(text.size(), text.find("\xE2\x96\x81")));  // the one character that is encoded differently
    REQUIRE(tokenizer.encode(text) == library_ids(model, text));
  }
}

TEST_CASE("tokenizer: ids are as probable as those of SentencePiece on the whole text, unigram") {
  const ScratchFolder folder;
  const auto model = small_tokenizer(folder, "unigram");
  const Tokenizer tokenizer(model);
  sentencepiece::SentencePieceProcessor processor;
  REQUIRE(processor.Load(model.string()).ok());
  const std::string text = license_text();
  const auto score = [&](const std::vector<int>& ids) {
    double sum = 0;
    for (const int id : ids) sum += processor.GetScore(id);
    return sum;
  };
  // Segmentations of equal probability exist ("00"+"0" and "0"+"00"); rounding chooses between them.
  int same = 0;
  int lines = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    const auto ours = tokenizer.encode(line);
    const auto theirs = library_ids(model, line);
    same += ours == theirs ? 1 : 0;
    ++lines;
    REQUIRE(std::abs(score(ours) - score(theirs)) <= 1e-6 * std::abs(score(theirs)));
    begin = end + 1;
  }
  REQUIRE(same >= lines * 9 / 10);
}

TEST_CASE("tokenizer: names of control and byte pieces in text are ordinary text") {
  const ScratchFolder folder;
  const Tokenizer tokenizer(small_tokenizer(folder));
  REQUIRE(tokenizer.unk_id() == 0);
  REQUIRE(tokenizer.bos_id() == 1);
  REQUIRE(tokenizer.eos_id() == 2);
  REQUIRE(tokenizer.pad_id() == 3);
  for (const std::string name : {"<unk>", "<s>", "</s>", "<pad>", "<0x41>"}) {
    const auto ids = tokenizer.encode(name);
    REQUIRE(ids.size() > 1);
    for (const int32_t id : ids) REQUIRE(id > 3);
    REQUIRE(tokenizer.decode(ids) == name);
  }
  REQUIRE(tokenizer.decode({1, 2, 3}).empty());
}

TEST_CASE("tokenizer: U+2581 and NUL go out as byte pieces") {
  const ScratchFolder folder;
  const Tokenizer tokenizer(small_tokenizer(folder));
  const auto pieces = [&](const std::string& text) {
    std::string names;
    for (const int32_t id : tokenizer.encode(text)) names += tokenizer.piece(id);
    return names;
  };
  REQUIRE(pieces("\xE2\x96\x81") == "<0xE2><0x96><0x81>");
  REQUIRE(pieces(std::string(1, '\0')) == "<0x00>");
  REQUIRE(pieces(" ") == "\xE2\x96\x81");
}

TEST_CASE("tokenizer: invalid UTF-8 is refused and its place named") {
  const ScratchFolder folder;
  const Tokenizer tokenizer(small_tokenizer(folder));
  for (const std::string bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xE2\x96", "\xED\xA0\x80", "\xF0\x80\x80\x80",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xC3(", "\xF0\x9F\x98"}) {
    REQUIRE(contains(input_error_of([&] { tokenizer.encode("twelve bytes" + bad); }), "at byte 12"));
  }
}

TEST_CASE("tokenizer: ids outside the vocabulary are refused, never read past") {
  const ScratchFolder folder;
  const Tokenizer tokenizer(small_tokenizer(folder));
  REQUIRE(tokenizer.vocab_size() == 600);
  for (const int32_t id : {-1, 600, 1 << 30}) {
    REQUIRE(contains(input_error_of([&] { tokenizer.decode({5, id}); }), "0 to 599"));
    REQUIRE(contains(input_error_of([&] { tokenizer.decode_piece(id); }), "0 to 599"));
  }
}

TEST_CASE("tokenizer: pieces decoded one by one are the text decoded at once") {
  const ScratchFolder folder;
  const Tokenizer tokenizer(small_tokenizer(folder));
  const std::string text = random_text(7, 211);
  std::string streamed;
  for (const int32_t id : tokenizer.encode(text)) streamed += tokenizer.decode_piece(id);
  REQUIRE(streamed == text);
}

TEST_CASE("tokenizer: what is no model is refused with its name") {
  const ScratchFolder folder;
  REQUIRE(contains(input_error_of([&] { Tokenizer(folder / "absent.model"); }), "absent.model"));
  folder.write("empty.model", "");
  folder.write("text.model", "This is no model. It is text.");
  std::string cut = read_file(small_tokenizer(folder));
  cut.resize(cut.size() / 2 + 1);
  folder.write("cut.model", cut);
  for (const std::string name : {"empty.model", "text.model", "cut.model"}) {
    REQUIRE(contains(input_error_of([&] { Tokenizer{folder / name}; }),
                     name + ": is not a usable SentencePiece model"));
  }
}

TEST_CASE("tokenizer: a foreign model with a dummy prefix is exact and gives SentencePiece's ids") {
  const ScratchFolder folder;
  const auto model = foreign_model(folder, {{"model_type", "bpe"},
                                            {"byte_fallback", "true"},
                                            {"normalization_rule_name", "identity"},
                                            {"remove_extra_whitespaces", "false"}});
  const Tokenizer tokenizer(model);
  REQUIRE(tokenizer.info().dummy_prefix);
  REQUIRE(tokenizer.info().inexact.empty());
  REQUIRE(tokenizer.pad_id() == -1);
  for (const std::string text : {"the work", " the work", "  two  spaces ", "w", "\n", "naïve"}) {
    REQUIRE(tokenizer.encode(text) == library_ids(model, text));
  }
  for (const std::string& text : awkward_texts()) REQUIRE(tokenizer.decode(tokenizer.encode(text)) == text);
}

TEST_CASE("tokenizer: a foreign model without byte fallback and with other ids loads and says what is lost") {
  const ScratchFolder folder;
  const auto model = foreign_model(folder, {{"model_type", "unigram"},
                                            {"vocab_size", "300"},
                                            {"unk_id", "3"},
                                            {"bos_id", "0"},
                                            {"eos_id", "1"},
                                            {"pad_id", "2"}});
  const Tokenizer tokenizer(model);
  REQUIRE(tokenizer.unk_id() == 3);
  REQUIRE(tokenizer.bos_id() == 0);
  REQUIRE(tokenizer.eos_id() == 1);
  REQUIRE(tokenizer.pad_id() == 2);
  REQUIRE(contains(tokenizer.info().inexact, "byte fallback"));
  for (const std::string text : {"the  work of the licensor", "漢字 and text"}) {
    REQUIRE(tokenizer.encode(text) == library_ids(model, text));
  }
  REQUIRE(tokenizer.decode(tokenizer.encode("the work")) == "the work");
}
