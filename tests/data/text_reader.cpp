// Reading documents from text and JSON lines, plain and compressed, and the errors that name a line.
#include "data/text_reader.h"

#include <algorithm>

#include <zlib.h>
#include <zstd.h>

#include "data/byte_stream.h"
#include "data/utf8.h"
#include "support/catch.h"
#include "text_fixture.h"

using namespace transxssm;

namespace {

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::string gzip(const std::string& text) {
  z_stream z{};
  REQUIRE(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&z, text.size()) + 64, '\0');
  std::string in = text;
  z.next_in = reinterpret_cast<Bytef*>(in.data());
  z.avail_in = static_cast<uInt>(in.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  REQUIRE(deflate(&z, Z_FINISH) == Z_STREAM_END);
  out.resize(out.size() - z.avail_out);
  deflateEnd(&z);
  return out;
}

// The whole stream, read in pieces of an awkward size.
std::string read_all(const std::string& file, size_t step = 1009) {
  const auto stream = open_byte_stream(file, file);
  std::string all;
  for (size_t count = step; count == step;) {
    std::string piece(step, '\0');
    count = stream->read(piece.data(), step);
    all += piece.substr(0, count);
  }
  return all;
}

std::vector<std::string> names(const std::vector<std::string>& inputs,
                               TextFormat format = TextFormat::automatic) {
  std::vector<std::string> found;
  for (const TextSource& source : find_text_sources(inputs, format))
    found.push_back(source.path.filename().string());
  return found;
}

struct Found {
  int64_t line;
  std::string text;
  std::string error;
  bool continued;
};

std::vector<Found> documents(const std::vector<std::string>& inputs, const std::string& field = "text") {
  std::vector<Found> found;
  BlockReader reader(find_text_sources(inputs, TextFormat::automatic));
  while (const auto block = reader.next()) {
    for_each_document(*block, field, [&](const TextDocument& document) {
      found.push_back({document.line, std::string(document.text), document.error, document.continued});
    });
  }
  return found;
}

std::string error_of(const std::string& line, const std::string& field = "text") {
  const ScratchFolder folder;
  const auto found = documents({folder.write("a.jsonl", line)}, field);
  REQUIRE(found.size() == 1);
  return found[0].error;
}

}  // namespace

TEST_CASE("byte stream: plain, gzip and zstd give the same bytes, in one member or several") {
  const ScratchFolder folder;
  const std::string text = license_text();
  for (const size_t step : {size_t{1}, size_t{4}, size_t{1009}, size_t{1} << 20}) {
    REQUIRE(read_all(folder.write("a.txt", text), step) == text);
    REQUIRE(read_all(folder.write("a.gz", gzip(text)), step) == text);
    REQUIRE(read_all(folder.write("a.zst", zstd(text)), step) == text);
  }
  REQUIRE(read_all(folder.write("b.gz", gzip(text) + gzip("") + gzip("end") + std::string(512, '\0'))) ==
          text + "end");
  REQUIRE(read_all(folder.write("b.zst", zstd(text) + zstd("") + zstd("end"))) == text + "end");
  // Known by its content, not its name.
  REQUIRE(read_all(folder.write("c.txt", zstd(text))) == text);
  for (const std::string& small : {std::string(), std::string("abc"), std::string("abcde")}) {
    REQUIRE(read_all(folder.write("small.txt", small)) == small);
    REQUIRE(read_all(folder.write("small.gz", gzip(small))) == small);
    REQUIRE(read_all(folder.write("small.zst", zstd(small))) == small);
  }
}

TEST_CASE("byte stream: truncated, corrupt and misnamed files are named") {
  const ScratchFolder folder;
  std::string text;
  for (int64_t i = 0; i < 200; ++i) text += sample_document(i);
  const auto error = [&](const std::string& name, const std::string& content) {
    const std::string file = folder.write(name, content);
    const std::string message = input_error_of([&] { read_all(file); });
    REQUIRE(contains(message, name));
    return message;
  };
  for (const bool gz : {true, false}) {
    const std::string good = gz ? gzip(text) : zstd(text);
    const std::string name = gz ? "a.gz" : "a.zst";
    for (const size_t keep : {size_t{5}, good.size() / 2, good.size() - 1}) {
      REQUIRE(contains(error(name, good.substr(0, keep)), "truncated?"));
    }
    std::string corrupt = good;
    for (size_t i = corrupt.size() / 2; i < corrupt.size() / 2 + 40; ++i)
      corrupt[i] = static_cast<char>(~corrupt[i]);
    REQUIRE(contains(error(name, corrupt), "corrupt"));
    REQUIRE(contains(error(name, good + "garbage"), "corrupt"));
    REQUIRE(contains(error(name, "plain text"), "misnamed"));
    REQUIRE(contains(error(name, std::string("\xfd"
                                             "7zXZ\0",
                                             6)),
                     "is compressed by xz"));
    REQUIRE(contains(error(name, ""), "misnamed"));
  }
  REQUIRE(contains(input_error_of([&] { read_all((folder / "absent.txt").string()); }), "No such file"));
}

TEST_CASE("text sources: files, globs and folders, sorted, each once") {
  const ScratchFolder folder;
  for (const char* name : {"b.txt", "a.jsonl", "sub/c.jsonl.zst", "sub/d.md.gz", "sub/e.bin", ".hidden.txt",
                           "f.json", ".git/g.txt"}) {
    folder.write(name, "x");
  }
  const std::string root = folder.path().string();
  REQUIRE(names({root}) == std::vector<std::string>{"a.jsonl", "b.txt", "f.json", "c.jsonl.zst", "d.md.gz"});
  REQUIRE(names({root}, TextFormat::text).size() == 6);
  REQUIRE(names({root + "/*.txt", root}).front() == "b.txt");
  REQUIRE(names({root + "/*.txt", root}).size() == 5);
  REQUIRE(names({root + "/sub/e.bin"}) == std::vector<std::string>{"e.bin"});
  REQUIRE(names({"-", "-"}) == std::vector<std::string>{"-"});
  REQUIRE(contains(input_error_of([&] { names({root + "/*.parquet"}); }), "matches nothing"));
  REQUIRE(contains(input_error_of([&] { names({root + "/absent"}); }), "absent: no such file"));
  REQUIRE(contains(input_error_of([&] { names({}); }), "no input given"));
  folder.write("others/a.bin", "x");
  REQUIRE(contains(input_error_of([&] { names({root + "/others"}); }), "holds no text"));
  REQUIRE(contains(input_error_of([] { parse_text_format("csv"); }), "auto, text and jsonl"));
}

TEST_CASE("text reader: a text file is one document, a JSON line is one") {
  const ScratchFolder folder;
  const std::string text = "two\n\nparagraphs ";
  const auto found = documents(
      {folder.write("a.txt", text), folder.write("b.jsonl",
                                                 "\n{\"text\":\"x\\ny\"}\r\n  \n{\"id\":{\"text\":1},"
                                                 "\"text\":\"\\u0000\\ud83d\\ude00\"}")});
  REQUIRE(found.size() == 3);
  REQUIRE(found[0].text == text);
  REQUIRE(found[1].text == "x\ny");
  REQUIRE(found[1].line == 2);
  REQUIRE(found[2].text == std::string(1, '\0') + "😀");
  REQUIRE(found[2].line == 4);
  REQUIRE(documents({folder.write("c.jsonl", "{\"body\": \"b\", \"text\": \"t\"}\n")}, "body")[0].text ==
          "b");
}

TEST_CASE("text reader: blocks cover a source once, whole lines each, with the right line numbers") {
  const ScratchFolder folder;
  std::string lines;
  for (int64_t i = 0; i < 5003; ++i)
    lines += json_line(std::to_string(i) + std::string(static_cast<size_t>(i % 307), 'x'));
  lines += json_line(std::string(2 * kBlockBytes, 'y')) + "{\"text\": \"last\"}";
  const auto found = documents({folder.write("a.jsonl.zst", zstd(lines))});
  REQUIRE(found.size() == 5005);
  for (size_t i = 0; i < found.size(); ++i) REQUIRE(found[i].line == static_cast<int64_t>(i) + 1);
  REQUIRE(found[4321].text.starts_with("4321x"));
  REQUIRE(found.back().text == "last");
}

TEST_CASE("text reader: what is wrong with a JSON line is said") {
  REQUIRE(contains(error_of("{\"text\": \"a\""), "not valid JSON at byte"));
  REQUIRE(contains(error_of("{\"text\": \"a\"} x"), "not valid JSON"));
  REQUIRE(contains(error_of("{\"text\": \"\\ud800\"}"), "not valid JSON"));
  REQUIRE(contains(error_of("{\"text\": \"\xFF\"}"), "invalid UTF-8 at byte 11"));
  REQUIRE(contains(error_of("[1, 2]"), "not a JSON object"));
  REQUIRE(contains(error_of("\"text\""), "not a JSON object"));
  REQUIRE(contains(error_of("{\"text\": null}"), "field \"text\" is null"));
  REQUIRE(contains(error_of("{\"text\": [\"a\"]}"), "field \"text\" is a list"));
  REQUIRE(
      contains(error_of("{\"content\": \"a\", \"id\": 3}"), "no field \"text\"; the line has content, id"));
  REQUIRE(contains(error_of("{\"a\": {\"text\": \"inner\"}}"), "no field \"text\""));
  REQUIRE(error_of("{\"text\": \"\"}").empty());
}

TEST_CASE("text reader: invalid UTF-8 in a text is named by its line") {
  const ScratchFolder folder;
  const auto found = documents({folder.write("a.txt", "one\ntwo\nth\x80ree\n")});
  REQUIRE(found.size() == 1);
  REQUIRE(found[0].line == 3);
  REQUIRE(contains(found[0].error, "0x80"));
}

TEST_CASE("text reader: documents over the limit are cut and lose nothing") {
  const ScratchFolder folder;
  std::string text;
  while (text.size() < kMaxDocumentBytes * 5 / 2) text += license_text() + "é";
  for (const std::string& file : {folder.write("a.txt", text), folder.write("b.jsonl", json_line(text))}) {
    const auto found = documents({file});
    REQUIRE(found.size() == 3);
    std::string together;
    for (const Found& part : found) {
      REQUIRE(part.error.empty());
      REQUIRE(part.text.size() <= kMaxDocumentBytes);
      REQUIRE(part.continued == !together.empty());
      together += part.text;
    }
    REQUIRE(together == text);
  }
}

TEST_CASE("text reader: a line too long to hold is an error of its own and reading goes on after it") {
  const ScratchFolder folder;
  const std::string file =
      folder.write("a.jsonl", json_line("first") + std::string(kMaxJsonLineBytes + (3 << 20), 'z') + "\n" +
                                  json_line("last"));
  const auto found = documents({file});
  REQUIRE(found.size() == 3);
  REQUIRE(found[1].line == 2);
  REQUIRE(contains(found[1].error, "at most 67108864"));
  REQUIRE(found[2].line == 3);
  REQUIRE(found[2].text == "last");
}

TEST_CASE("cut_position: at a line break, else before a space, else between characters") {
  REQUIRE(cut_position("short", 10) == 5);
  REQUIRE(cut_position("0123456\n89abc", 10) == 8);
  REQUIRE(cut_position("0\n23456 89abc", 10) == 7);
  REQUIRE(cut_position("0123456789abc", 10) == 10);
  REQUIRE(cut_position("01234567é9abc", 9) == 8);
  REQUIRE(cut_position("01234567😀abc", 11) == 8);
  REQUIRE(cut_position(" 123456789abc", 10) == 10);
}

TEST_CASE("names_of: a message names the first inputs and counts the rest") {
  const auto names = [](size_t count) {
    std::vector<TextSource> sources(count);
    for (size_t i = 0; i < count; ++i) sources[i].name = concat(i, ".txt");
    return names_of(sources);
  };
  REQUIRE(names(1) == "0.txt");
  REQUIRE(names(3) == "0.txt, 1.txt, 2.txt");
  REQUIRE(names(5) == "0.txt, 1.txt, 2.txt and 2 more");
}

TEST_CASE("find_invalid_utf8: every kind of invalid sequence is found where it starts") {
  REQUIRE(find_invalid_utf8("") == std::string_view::npos);
  REQUIRE(find_invalid_utf8("ASCII, é, 漢, 😀 \xEF\xBF\xBF") == std::string_view::npos);
  for (const std::string bad : {"\x80", "\xC0\xAF", "\xE0\x9F\xBF", "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF",
                                "\xF4\x90\x80\x80", "\xE2\x82"}) {
    for (size_t before = 0; before < 18; ++before)
      REQUIRE(find_invalid_utf8(std::string(before, 'a') + bad + "!") == before);
  }
}
