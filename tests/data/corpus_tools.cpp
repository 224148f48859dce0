// data inspect and data verify: what they print, and the damage they name.
#include "data/corpus_tools.h"

#include <cstring>
#include <sstream>

#include "data/prepare.h"
#include "data/token_file.h"
#include "support/catch.h"
#include "text_fixture.h"

using namespace transxssm;
namespace fs = std::filesystem;

namespace {

struct Prepared {
  ScratchFolder folder;
  PrepareOptions options;
  std::string output;

  Prepared() {
    options.inputs = {folder.write("a.jsonl", sample_jsonl(101))};
    options.tokenizer = small_tokenizer(folder);
    options.output = folder / "out";
    options.shard_tokens = 7001;
    options.validation_fraction = 0.1;
    options.threads = 1;
    prepare_corpus(options);
    output = options.output.string();
  }

  std::string inspect(const std::string& path, const std::string& documents = "", bool tokens = false) const {
    InspectOptions inspected;
    inspected.path = path;
    if (!documents.empty()) inspected.documents = parse_document_range(documents);
    inspected.tokens = tokens;
    std::ostringstream out;
    inspect_corpus(inspected, out);
    return out.str();
  }

  std::string damage(const std::string& path) const {
    std::string all;
    for (const std::string& message : verify_corpus(path, {}).damage) all += message + "\n";
    return all;
  }

  // Changes `count` bytes of a file of the output.
  void change(const std::string& name, size_t offset, std::string_view bytes) const {
    std::string content = read_file(options.output / name);
    REQUIRE(offset + bytes.size() <= content.size());
    content.replace(offset, bytes.size(), bytes);
    write_file_atomically(options.output / name, content);
  }
};

}  // namespace

TEST_CASE("data inspect: counts of a corpus, and documents as text, over all shards") {
  const Prepared prepared;
  const std::string counts = prepared.inspect(prepared.output);
  REQUIRE(contains(counts, "101 documents"));
  REQUIRE(contains(counts, "bytes a token"));
  REQUIRE(contains(counts, "val/shard-00000"));
  const std::string train = prepared.output + "/train";
  REQUIRE(contains(prepared.inspect(train, "0"), "=== document 0 ("));
  const std::string all = prepared.inspect(prepared.output, "0..100");
  for (int64_t i = 0; i < 101; ++i) REQUIRE(contains(all, sample_document(i)));
  REQUIRE(contains(all, "=== document 100 ("));
}

TEST_CASE("data inspect: --tokens prints ids and pieces") {
  const Prepared prepared;
  const std::string printed = prepared.inspect(prepared.output, "3", true);
  REQUIRE(contains(printed, "\n1\t\"<s>\"\n"));
  REQUIRE(contains(printed, "\n2\t\"</s>\"\n"));
}

TEST_CASE("data inspect: missing documents, missing data and missing tokenizers are input errors") {
  const Prepared prepared;
  REQUIRE(contains(input_error_of([&] { prepared.inspect(prepared.output, "101"); }), "there are 101"));
  REQUIRE(contains(input_error_of([&] { prepared.inspect(prepared.output + "/absent"); }), "no token files"));
  for (const std::string range : {"x", "-1", "3..", "..4", "3...4", "1.5"}) {
    REQUIRE(contains(input_error_of([&] { parse_document_range(range); }), "valid are 7 or 3..9"));
  }
  REQUIRE(contains(input_error_of([] { parse_document_range("9..3"); }), "ends before it begins"));

  fs::create_directories(prepared.folder / "foreign");
  TokenFileWriter writer(prepared.folder / "foreign" / "shard", 600);
  writer.add_document(std::vector<int32_t>{5, 6, 7});
  writer.finish();
  const std::string foreign = (prepared.folder / "foreign").string();
  REQUIRE(contains(input_error_of([&] { prepared.inspect(foreign, "0"); }), "no tokenizer is known"));
  REQUIRE(contains(prepared.inspect(foreign, "0", true), "\n5\n6\n7\n"));
}

TEST_CASE("data verify: a sound corpus is valid, whole or in part") {
  const Prepared prepared;
  for (const std::string part : {"", "/", "/train", "/train/shard-00000", "/val"}) {
    const auto report = verify_corpus(prepared.output + part, {});
    REQUIRE(report.damage.empty());
    REQUIRE(report.has_manifest);
    REQUIRE(report.vocab_size == 600);
    REQUIRE(report.shards > 0);
  }
  REQUIRE(verify_corpus(prepared.output, prepared.options.tokenizer).documents == 101);
}

TEST_CASE("data verify: every kind of damage is found and named") {
  const Prepared prepared;
  const std::string shard = "train/shard-00001";
  const auto damage = [&] { return prepared.damage(prepared.output); };
  SECTION("a changed token") {
    prepared.change(shard + ".bin", 100, std::string("\x07\x00", 2));
    REQUIRE(contains(damage(), shard + ".bin: checksum differs"));
  }
  SECTION("a token outside the vocabulary") {
    prepared.change(shard + ".bin", 2 * 10, "\xff\x7f");
    REQUIRE(contains(damage(), "document 0: token 10 is 32767, outside the vocabulary of 600"));
  }
  SECTION("a document without its end") {
    const TokenFile file(prepared.options.output / shard);
    const auto end = static_cast<size_t>(file.document_begin(3));
    prepared.change(shard + ".bin", 2 * (end - 1), std::string("\x07\x00", 2));
    REQUIRE(contains(damage(), "document 2: does not end with EOS"));
  }
  SECTION("a truncated .bin") {
    fs::resize_file(prepared.options.output / (shard + ".bin"), 1000);
    REQUIRE(contains(damage(), shard + ".bin, which has 1000 bytes"));
  }
  SECTION("a truncated .idx") {
    fs::resize_file(prepared.options.output / (shard + ".idx"), 100);
    REQUIRE(contains(damage(), shard + ".idx: has 100 bytes"));
  }
  SECTION("a changed offset in the .idx") {
    prepared.change(shard + ".idx", 36, "\x01");
    const std::string found = damage();
    REQUIRE(contains(found, shard + ".idx: checksum differs"));
  }
  SECTION("a missing shard") {
    fs::remove(prepared.options.output / (shard + ".bin"));
    fs::remove(prepared.options.output / (shard + ".idx"));
    REQUIRE(contains(damage(), shard + ": is missing"));
  }
  SECTION("half a shard") {
    fs::remove(prepared.options.output / (shard + ".bin"));
    REQUIRE(contains(damage(), "shard-00001.bin"));
  }
  SECTION("a shard too many") {
    for (const char* ending : {".bin", ".idx"}) {
      fs::copy(prepared.options.output / (shard + ending),
               prepared.options.output / (std::string("train/more") + ending));
    }
    REQUIRE(contains(damage(), "train/more: is not in the manifest"));
  }
  SECTION("another tokenizer") {
    const auto other = small_tokenizer(prepared.folder, "unigram");
    REQUIRE(verify_corpus(prepared.output, other).damage.size() == 1);
    fs::copy(other, prepared.options.output / "tokenizer.model", fs::copy_options::overwrite_existing);
    REQUIRE(contains(damage(), "is not the tokenizer that made these tokens"));
  }
  SECTION("two at once are both named") {
    prepared.change(shard + ".bin", 100, std::string("\x07\x00", 2));
    fs::remove(prepared.options.output / "val" / "shard-00000.idx");
    REQUIRE(contains(damage(), shard));
    REQUIRE(contains(damage(), "val/shard-00000"));
  }
}

TEST_CASE("data verify: a run that has not finished and a damaged manifest are input errors") {
  const Prepared prepared;
  prepared.change("manifest.json", 0, "[");
  REQUIRE(contains(input_error_of([&] { verify_corpus(prepared.output, {}); }), "manifest.json: is damaged"));
  fs::remove(prepared.options.output / "manifest.json");
  prepared.folder.write("out/prepare-state.json", "{}");
  REQUIRE(contains(input_error_of([&] { verify_corpus(prepared.output, {}); }), "has not finished"));
}

TEST_CASE("data verify: foreign shards are checked against a tokenizer, or for what can be known without") {
  const Prepared prepared;
  fs::create_directories(prepared.folder / "foreign");
  TokenFileWriter writer(prepared.folder / "foreign" / "shard", 1000);
  writer.add_document(std::vector<int32_t>{5, 6, 999});
  writer.finish();
  const std::string foreign = (prepared.folder / "foreign").string();
  const auto report = verify_corpus(foreign, {});
  REQUIRE(report.damage.empty());
  REQUIRE_FALSE(report.has_manifest);
  REQUIRE(report.vocab_size == 0);
  REQUIRE(contains(verify_corpus(foreign, prepared.options.tokenizer).damage.at(0), "token 2 is 999"));
}
