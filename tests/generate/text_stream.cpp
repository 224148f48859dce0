// Promises of streamed text: only whole characters, nothing of a stop string, in sum what decoding at once
// gives.
#include "generate/text_stream.h"

#include <fstream>

#include "data/tokenizer_trainer.h"
#include "data/utf8.h"
#include "support/catch.h"
#include "support/temp_folder.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

constexpr const char* kText = "The stream ran on; the streams ran on and on, as streams do. Naïve? Às vezes.";

const Tokenizer& tokenizer() {
  static const TempFolder folder;
  static const Tokenizer loaded = [] {
    std::string corpus;
    for (int i = 0; i < 50; ++i) corpus += std::string(kText) + "\n";
    std::ofstream(folder / "text.txt") << corpus;
    train_tokenizer({.inputs = {(folder / "text.txt").string()},
                     .model_prefix = (folder / "tok").string(),
                     .vocab_size = 300,
                     .threads = 1});
    return Tokenizer(folder / "tok.model");
  }();
  return loaded;
}

struct Streamed {
  std::vector<std::string> parts;  // one a token, and what came at the end
  bool stopped = false;

  std::string text() const {
    std::string all;
    for (const std::string& part : parts) all += part;
    return all;
  }
};

Streamed stream(const std::vector<int32_t>& ids, const std::vector<std::string>& stops = {},
                bool follows_text = false) {
  TextStream text(tokenizer(), follows_text, stops);
  Streamed out;
  for (const int32_t id : ids) {
    out.parts.push_back(text.push(id));
    if (text.stopped()) break;
  }
  out.parts.push_back(text.finish());
  out.stopped = text.stopped();
  return out;
}

// Ids that spell these bytes one by one.
std::vector<int32_t> byte_ids(const std::string& bytes) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::vector<int32_t> ids;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    const std::string name{'<', '0', 'x', kDigits[byte / 16], kDigits[byte % 16], '>'};
    for (int32_t id = 0; id < tokenizer().vocab_size(); ++id)
      if (tokenizer().piece(id) == name) ids.push_back(id);
  }
  REQUIRE(ids.size() == bytes.size());
  return ids;
}

}  // namespace

TEST_CASE("text stream: parts are whole characters and join to the text") {
  for (const std::string text :
       {kText, "日本語 🙂👩‍👩‍👧 ñ", " leading", "\n\ttabs  and   spaces ", ""}) {
    CAPTURE(text);
    const Streamed out = stream(tokenizer().encode(text));
    for (const std::string& part : out.parts) REQUIRE(find_invalid_utf8(part) == std::string::npos);
    REQUIRE(out.text() == text);
  }
}

TEST_CASE("text stream: a character is given out with its last byte") {
  const Streamed out = stream(byte_ids("a🙂é"));
  REQUIRE(out.parts == std::vector<std::string>{"a", "", "", "", "🙂", "", "é", ""});
}

TEST_CASE("text stream: bytes that are no UTF-8 become U+FFFD, the rest stays") {
  const std::string mark = "\uFFFD";
  REQUIRE(stream(byte_ids("a\xFFz")).text() == "a" + mark + "z");
  REQUIRE(stream(byte_ids("\xC3z")).text() == mark + "z");
  REQUIRE(stream(byte_ids("\xF0\x9F\x99")).text() == mark + mark + mark);  // cut short
  REQUIRE(stream(byte_ids("\xE0\x9F")).parts[1] == mark + mark);           // no character begins like this
  REQUIRE(stream(byte_ids("\xF0\x9F\xF0\x9F\x99\x82")).text() == mark + mark + "🙂");
}

TEST_CASE("text stream: a space at the front stays where text came before") {
  const auto ids = tokenizer().encode(" on");
  const bool dummy = tokenizer().info().dummy_prefix;
  REQUIRE(stream(ids).text() == " on");
  REQUIRE(stream(ids, {}, /*follows_text=*/true).text() == (dummy ? "  on" : " on"));
}

TEST_CASE("text stream: a stop string is found wherever tokens end, and is not part of the text") {
  const std::string text = kText;
  for (const std::string stop : {"streams", "s ran", ".", "; the s", "on and on", "Às", "é", "never"}) {
    CAPTURE(stop);
    const size_t at = text.find(stop);
    for (const auto& ids : {tokenizer().encode(text), byte_ids(text)}) {
      const Streamed out = stream(ids, {stop});
      REQUIRE(out.stopped == (at != std::string::npos));
      REQUIRE(out.text() == text.substr(0, at));
    }
  }
}

TEST_CASE("text stream: of several stop strings the one that begins first counts") {
  REQUIRE(stream(byte_ids("abcabd"), {"bd", "cab"}).text() == "ab");
  REQUIRE(stream(byte_ids("aabaac"), {"aac"}).text() == "aab");
  REQUIRE(stream(byte_ids("xab"), {"abc", "b"}).text() == "xa");
  // Held back because it may become a stop string, given out when it doesn't.
  REQUIRE(stream(byte_ids("abx"), {"abc"}).parts == std::vector<std::string>{"", "", "abx", ""});
  REQUIRE(stream(byte_ids("ab"), {"abc"}).parts == std::vector<std::string>{"", "", "ab"});
}
