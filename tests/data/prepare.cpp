// data prepare: shards, splits, restarts after a kill, and what it refuses.
#include "data/prepare.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <numeric>
#include <thread>

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "data/token_file.h"
#include "data/tokenizer.h"
#include "support/catch.h"
#include "text_fixture.h"

using namespace transxssm;
namespace fs = std::filesystem;

namespace {

// All files below a folder, by path from there.
std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files[fs::relative(entry.path(), folder).string()] = read_file(entry.path());
  }
  return files;
}

std::vector<std::string> texts(const fs::path& folder, const Tokenizer& tokenizer) {
  std::vector<std::string> found;
  if (!fs::exists(folder)) return found;
  for (const fs::path& prefix : find_token_files(folder.string())) {
    const TokenFile file(prefix);
    for (int64_t d = 0; d < file.num_documents(); ++d) {
      std::vector<int32_t> ids(static_cast<size_t>(file.document_begin(d + 1) - file.document_begin(d)));
      file.read(file.document_begin(d), ids);
      REQUIRE(ids.front() == tokenizer.bos_id());
      REQUIRE(ids.back() == tokenizer.eos_id());
      found.push_back(tokenizer.decode(ids));
    }
  }
  return found;
}

// A corpus of 600 short documents in two files, and options that make about a dozen shards of it.
struct Corpus {
  ScratchFolder folder;
  PrepareOptions options;

  Corpus() {
    options.inputs = {folder.write("in/a.jsonl", sample_jsonl(400)),
                      folder.write("in/b.txt", sample_document(1000)),
                      folder.write("in/c.jsonl", json_line("") + json_line(sample_document(1001)))};
    options.tokenizer = small_tokenizer(folder);
    options.output = folder / "out";
    options.shard_tokens = 5003;
    options.threads = 2;
  }
};

}  // namespace

TEST_CASE("prepare: every document once, in order, between BOS and EOS") {
  Corpus corpus;
  const auto manifest = prepare_corpus(corpus.options);
  const Tokenizer tokenizer(corpus.options.tokenizer);
  const auto found = texts(corpus.options.output / "train", tokenizer);
  REQUIRE(found.size() == 402);
  for (int64_t i = 0; i < 400; ++i) REQUIRE(found[static_cast<size_t>(i)] == sample_document(i));
  REQUIRE(found[400] == sample_document(1000));
  REQUIRE(found[401] == sample_document(1001));

  REQUIRE(manifest.counts.documents == 402);
  REQUIRE(manifest.counts.empty == 1);
  REQUIRE(manifest.vocab_size() == 600);
  REQUIRE(manifest.tokenizer_hash() == Tokenizer(corpus.options.output / "tokenizer.model").hash());
  REQUIRE(manifest.shards.size() > 5);
  for (const ShardRecord& shard : manifest.shards) REQUIRE(shard.tokens <= 5003);
  REQUIRE(find_manifest((corpus.options.output / "train").string())->counts.tokens == manifest.counts.tokens);
  REQUIRE_FALSE(fs::exists(corpus.options.output / "prepare-state.json"));
  REQUIRE_FALSE(fs::exists(corpus.options.output / "val"));
}

TEST_CASE("prepare: bytes do not depend on the number of threads") {
  Corpus corpus;
  corpus.options.validation_fraction = 0.1;
  std::map<std::string, std::string> expected;
  for (const int threads : {1, 2, 7}) {
    corpus.options.threads = threads;
    corpus.options.output = corpus.folder / concat("out", threads);
    prepare_corpus(corpus.options);
    const auto files = contents(corpus.options.output);
    if (expected.empty()) expected = files;
    REQUIRE(files == expected);
  }
  REQUIRE(expected.contains("val/shard-00000.idx"));
}

TEST_CASE("prepare: --no-bos leaves out BOS only") {
  Corpus corpus;
  const auto with = prepare_corpus(corpus.options);
  corpus.options.bos = false;
  corpus.options.output = corpus.folder / "no-bos";
  const auto without = prepare_corpus(corpus.options);
  REQUIRE(with.counts.tokens - without.counts.tokens == with.counts.documents);
}

TEST_CASE("prepare: the validation split takes whole documents, by their text, and keeps all") {
  Corpus corpus;
  const Tokenizer tokenizer(corpus.options.tokenizer);
  std::string lines = sample_jsonl(400);
  corpus.options.inputs = {corpus.folder.write("twice.jsonl", lines + lines)};
  corpus.options.validation_fraction = 0.25;
  prepare_corpus(corpus.options);
  const auto train = texts(corpus.options.output / "train", tokenizer);
  const auto val = texts(corpus.options.output / "val", tokenizer);
  REQUIRE(train.size() + val.size() == 800);
  REQUIRE(val.size() > 120);
  REQUIRE(val.size() < 280);
  for (const std::string& text : val) REQUIRE(std::find(train.begin(), train.end(), text) == train.end());
}

TEST_CASE("prepare: --validation-documents takes exactly so many") {
  Corpus corpus;
  const Tokenizer tokenizer(corpus.options.tokenizer);
  for (const int64_t wanted : {1, 37, 401}) {
    corpus.options.output = corpus.folder / concat("out", wanted);
    corpus.options.validation_documents = wanted;
    prepare_corpus(corpus.options);
    REQUIRE(texts(corpus.options.output / "val", tokenizer).size() == static_cast<size_t>(wanted));
    REQUIRE(texts(corpus.options.output / "train", tokenizer).size() == static_cast<size_t>(402 - wanted));
  }
  corpus.options.validation_documents = 402;
  corpus.options.output = corpus.folder / "all";
  REQUIRE(contains(input_error_of([&] { prepare_corpus(corpus.options); }), "leaves nothing to train on"));
  REQUIRE_FALSE(fs::exists(corpus.options.output));
}

TEST_CASE("prepare: a run that stopped goes on at its last finished shard and gives the same bytes") {
  Corpus corpus;
  corpus.options.inputs.push_back(
      corpus.folder.write("in/d.jsonl", sample_jsonl(50) + "{broken\n" + sample_jsonl(20)));
  corpus.options.validation_fraction = 0.1;
  corpus.options.skip_bad = true;
  prepare_corpus(corpus.options);
  const auto expected = contents(corpus.options.output);

  corpus.options.output = corpus.folder / "stopped";
  corpus.options.skip_bad = false;
  const std::string message = input_error_of([&] { prepare_corpus(corpus.options); });
  REQUIRE(contains(message, "d.jsonl:51: not valid JSON"));
  REQUIRE(fs::exists(corpus.options.output / "prepare-state.json"));
  REQUIRE_FALSE(fs::exists(corpus.options.output / "manifest.json"));
  const fs::path first = corpus.options.output / "train" / "shard-00000.bin";
  const auto written = fs::last_write_time(first);

  corpus.options.skip_bad = true;
  corpus.options.threads = 3;
  const auto manifest = prepare_corpus(corpus.options);
  REQUIRE(manifest.counts.skipped == 1);
  REQUIRE(fs::last_write_time(first) == written);
  REQUIRE(contents(corpus.options.output) == expected);
}

TEST_CASE("prepare: killed at any time and started again it gives the same bytes") {
  Corpus corpus;
  corpus.options.inputs = {corpus.folder.write("many.jsonl", sample_jsonl(4000))};
  corpus.options.validation_documents = 101;
  corpus.options.shard_tokens = 30011;
  prepare_corpus(corpus.options);
  const auto expected = contents(corpus.options.output);
  corpus.options.output = corpus.folder / "killed";
  for (const int milliseconds : {3, 15, 40, 80, 150}) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      try {
        prepare_corpus(corpus.options);
      } catch (...) {
        ::_exit(1);
      }
      ::_exit(0);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    REQUIRE((WIFSIGNALED(status) || WEXITSTATUS(status) == 0));
  }
  prepare_corpus(corpus.options);
  REQUIRE(contents(corpus.options.output) == expected);
}

TEST_CASE(
    "prepare: standard input gives the same shards as the file and must be the same again at a resume") {
  Corpus corpus;
  const std::string lines = sample_jsonl(3000);
  corpus.options.shard_tokens = 40009;
  const auto prepare_stdin = [&](const std::string& text) {
    const std::string file = corpus.folder.write("stdin", text);
    const int saved = ::dup(STDIN_FILENO);
    const int fd = ::open(file.c_str(), O_RDONLY);
    ::dup2(fd, STDIN_FILENO);
    ::close(fd);
    const std::string message = input_error_of([&] { prepare_corpus(corpus.options); });
    ::dup2(saved, STDIN_FILENO);
    ::close(saved);
    return message;
  };
  corpus.options.inputs = {corpus.folder.write("lines.jsonl", lines)};
  const auto from_file = prepare_corpus(corpus.options);

  corpus.options.inputs = {"-"};
  corpus.options.output = corpus.folder / "from-stdin";
  REQUIRE(contains(prepare_stdin(lines + "{broken\n"), "standard input:3001: not valid JSON"));
  std::string other = lines;
  other[other.find("licen")] = 'L';
  REQUIRE(contains(prepare_stdin(other + "{broken\n"), "not what the earlier run"));
  corpus.options.skip_bad = true;
  REQUIRE(prepare_stdin(lines + "{broken\n").empty());
  REQUIRE(contents(corpus.options.output / "train") == contents(corpus.folder / "out" / "train"));
  REQUIRE(read_corpus_manifest(corpus.options.output)->counts.tokens == from_file.counts.tokens);
  REQUIRE(contains(prepare_stdin(lines), "standard input can't be compared"));
  corpus.options.validation_documents = 5;
  REQUIRE(contains(prepare_stdin(lines), "--validation-fraction"));
}

TEST_CASE("prepare: the same again does nothing; other options or changed input are refused") {
  Corpus corpus;
  prepare_corpus(corpus.options);
  const auto expected = contents(corpus.options.output);
  const auto written = fs::last_write_time(corpus.options.output / "manifest.json");
  prepare_corpus(corpus.options);
  REQUIRE(fs::last_write_time(corpus.options.output / "manifest.json") == written);

  auto other = corpus.options;
  other.shard_tokens = 9001;
  REQUIRE(contains(input_error_of([&] { prepare_corpus(other); }), "shard_tokens 5003 (now 9001)"));
  other = corpus.options;
  other.inputs.pop_back();
  REQUIRE(contains(input_error_of([&] { prepare_corpus(other); }), "3 input files (now 2)"));
  other = corpus.options;
  corpus.folder.write("in/b.txt", "other text");
  REQUIRE(contains(input_error_of([&] { prepare_corpus(other); }), "other content in"));
  REQUIRE(contents(corpus.options.output) == expected);
  other.overwrite = true;
  prepare_corpus(other);
  REQUIRE(contents(corpus.options.output) != expected);
}

TEST_CASE("prepare: --overwrite leaves no shard of the earlier run and nothing that is not its own") {
  Corpus corpus;
  prepare_corpus(corpus.options);
  corpus.folder.write("out/train/notes.txt", "mine");
  corpus.options.shard_tokens = 50000;
  corpus.options.overwrite = true;
  const auto manifest = prepare_corpus(corpus.options);
  REQUIRE(manifest.shards.size() < 3);
  REQUIRE(find_token_files((corpus.options.output / "train").string()).size() == manifest.shards.size());
  REQUIRE(fs::exists(corpus.options.output / "train" / "notes.txt"));
}

TEST_CASE("prepare: a damaged or foreign output folder is explained") {
  Corpus corpus;
  prepare_corpus(corpus.options);
  fs::remove(corpus.options.output / "train" / "shard-00001.idx");
  REQUIRE(contains(input_error_of([&] { prepare_corpus(corpus.options); }), "shard-00001"));
  fs::remove(corpus.options.output / "manifest.json");
  REQUIRE(contains(input_error_of([&] { prepare_corpus(corpus.options); }), "of unknown origin"));
  corpus.folder.write("out/manifest.json", "{\"format\": \"transxssm-corpus\"}");
  REQUIRE(contains(input_error_of([&] { prepare_corpus(corpus.options); }), "manifest.json: is damaged"));
  corpus.options.overwrite = true;
  prepare_corpus(corpus.options);

  corpus.options.output = corpus.folder / "theirs";
  corpus.folder.write("theirs/tokenizer.model", read_file(small_tokenizer(corpus.folder, "unigram")));
  REQUIRE(contains(input_error_of([&] { prepare_corpus(corpus.options); }), "is another tokenizer"));
}

TEST_CASE("prepare: bad input is one message, and a first run that fails leaves nothing") {
  Corpus corpus;
  corpus.options.shard_tokens = 1'000'000;
  const auto error = [&](const std::vector<std::string>& inputs) {
    corpus.options.inputs = inputs;
    const std::string message = input_error_of([&] { prepare_corpus(corpus.options); });
    REQUIRE_FALSE(fs::exists(corpus.options.output));
    return message;
  };
  const auto write = [&](const std::string& name, const std::string& text) {
    return corpus.folder.write(name, text);
  };
  const std::string empty = write("empty.jsonl", "");
  REQUIRE(error({empty}) == "no documents in " + empty);
  REQUIRE(contains(error({write("empty.txt", "")}), "no documents"));
  REQUIRE(contains(error({write("blank.jsonl", "\n\n" + json_line(""))}), "no documents"));
  REQUIRE(contains(error({write("field.jsonl", sample_jsonl(3) + "{\"body\": \"x\"}\n")}),
                   "field.jsonl:4: no field \"text\""));
  REQUIRE(contains(error({write("utf8.jsonl", "{\"text\": \"\xC3\"}\n")}), "utf8.jsonl:1: invalid UTF-8"));
  REQUIRE(contains(error({write("utf8.txt", "a\nb\xFF\n")}), "utf8.txt:2: invalid UTF-8"));
  REQUIRE(contains(error({write("cut.zst", std::string("\x28\xb5\x2f\xfd\x04", 5))}), "cut.zst"));
  REQUIRE(contains(error({(corpus.folder / "absent.txt").string()}), "absent.txt: no such file"));
  corpus.options.skip_bad = true;
  REQUIRE(contains(error({write("bad.jsonl", "{\n[\n")}), "bad.jsonl, skipped 2 bad ones"));
  corpus.options.validation_fraction = 0.5;
  corpus.options.validation_documents = 5;
  REQUIRE(contains(error({"x"}), "can't both be given"));
  corpus.options.validation_documents = 0;
  corpus.options.validation_fraction = 1;
  REQUIRE(contains(error({"x"}), "below 1"));
  corpus.options.validation_fraction = 0;
  corpus.options.tokenizer = corpus.folder / "absent.model";
  REQUIRE(contains(error({write("fine.txt", "x")}), "absent.model"));
}

TEST_CASE("prepare: an output that can't be a folder or is read-only is an input error") {
  Corpus corpus;
  corpus.options.output = fs::path(corpus.folder.write("file", "x")) / "out";
  REQUIRE_FALSE(input_error_of([&] { prepare_corpus(corpus.options); }).empty());
  fs::create_directories(corpus.folder / "locked");
  fs::permissions(corpus.folder / "locked", fs::perms::owner_read | fs::perms::owner_exec |
                                                fs::perms::others_read | fs::perms::others_exec);
  corpus.options.output = corpus.folder / "locked" / "out";
  REQUIRE(test::in_child([&] {
            test::become_ordinary_user();
            return contains(input_error_of([&] { prepare_corpus(corpus.options); }), "locked") ? 0 : 1;
          }) == 0);
}

TEST_CASE("prepare: two at a time in one folder are kept apart") {
  Corpus corpus;
  fs::create_directories(corpus.options.output);
  const int fd = ::open(corpus.options.output.c_str(), O_RDONLY | O_DIRECTORY);
  REQUIRE(::flock(fd, LOCK_EX) == 0);
  REQUIRE(contains(input_error_of([&] { prepare_corpus(corpus.options); }), "another data prepare"));
  ::close(fd);
  REQUIRE(prepare_corpus(corpus.options).counts.documents == 402);
}
