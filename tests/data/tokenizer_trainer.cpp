// Training a tokenizer: special ids, sampling, and vocabularies that cannot be reached.
#include "data/tokenizer_trainer.h"

#include "data/prepare.h"
#include "data/text_sample.h"
#include "data/tokenizer.h"
#include "support/catch.h"
#include "text_fixture.h"

using namespace transxssm;

TEST_CASE("tokenizer train: the same input and options give the same file") {
  const ScratchFolder folder;
  const auto type = GENERATE(as<std::string>{}, "bpe", "unigram");
  auto training = small_training(folder, type);
  const std::string first = read_file(train_tokenizer(training).model);
  training.model_prefix = (folder / "again.model").string();
  const auto report = train_tokenizer(training);
  REQUIRE(report.model == folder / "again.model");
  REQUIRE(read_file(report.model) == first);
  REQUIRE(report.documents == 1);
  REQUIRE(report.bytes == static_cast<int64_t>(license_text().size()));
  REQUIRE(report.sampled_bytes == report.bytes);
}

TEST_CASE("tokenizer train: identity, exact whitespace, byte fallback and the fixed ids") {
  const ScratchFolder folder;
  const Tokenizer tokenizer(small_tokenizer(folder));
  const auto& info = tokenizer.info();
  REQUIRE(info.type == "bpe");
  REQUIRE(info.normalization == "identity");
  REQUIRE(info.byte_fallback);
  REQUIRE_FALSE(info.dummy_prefix);
  REQUIRE(info.byte_pieces == 256);
  REQUIRE(info.control_pieces == 3);
  REQUIRE(tokenizer.piece(0) == "<unk>");
  REQUIRE(tokenizer.piece(1) == "<s>");
  REQUIRE(tokenizer.piece(2) == "</s>");
  REQUIRE(tokenizer.piece(3) == "<pad>");
}

TEST_CASE(
    "tokenizer train: a vocabulary that the text can't fill or that is too small is refused, nothing "
    "written") {
  const ScratchFolder folder;
  auto training = small_training(folder);
  training.vocab_size = 30000;
  const std::string too_large = input_error_of([&] { train_tokenizer(training); });
  REQUIRE(contains(too_large, "30000 pieces can't be reached"));
  training.vocab_size = 270;
  REQUIRE(contains(input_error_of([&] { train_tokenizer(training); }), "270 pieces is too small"));
  training.vocab_size = 260;
  REQUIRE(contains(input_error_of([&] { train_tokenizer(training); }), "260 pieces is too small"));
  REQUIRE(std::filesystem::is_empty(folder.path()));

  // The number that the message names works.
  const std::string limit = too_large.substr(too_large.rfind("--vocab-size ") + 13);
  training.vocab_size = std::stoi(limit);
  REQUIRE(Tokenizer(train_tokenizer(training).model).vocab_size() == training.vocab_size);
}

TEST_CASE("tokenizer train: an empty corpus, bad lines and unknown options are input errors") {
  const ScratchFolder folder;
  auto training = small_training(folder);
  training.inputs = {folder.write("empty.txt", "")};
  REQUIRE(contains(input_error_of([&] { train_tokenizer(training); }), "no text in " + training.inputs[0]));
  training.inputs = {folder.write("bad.jsonl", json_line("fine") + "{\"text\": 1}\n")};
  REQUIRE(contains(input_error_of([&] { train_tokenizer(training); }),
                   "bad.jsonl:2: field \"text\" is a number"));
  training.inputs = {folder.write("bad2.jsonl", sample_jsonl(200) + "{\"text\": 1}\n")};
  training.skip_bad = true;
  training.vocab_size = 400;
  REQUIRE(train_tokenizer(training).skipped == 1);
  training.type = "wordpiece";
  REQUIRE(contains(input_error_of([&] { train_tokenizer(training); }), "valid are bpe and unigram"));
}

TEST_CASE(
    "tokenizer train: lines over the trainer's limit are split and counted, characters it reserves left "
    "out") {
  const ScratchFolder folder;
  std::string long_line = license_text();
  std::replace(long_line.begin(), long_line.end(), '\n', ' ');
  auto training = small_training(folder);
  const std::string reserved = "\xE2\x96\x85 \xE2\x96\x81" + std::string(1, '\0');
  training.inputs = {
      folder.write("long.txt", long_line + "\nshort " + reserved + " line\n" + std::string(9001, 'x'))};
  const auto report = train_tokenizer(training);
  REQUIRE(report.long_lines == 2);
  REQUIRE(report.sentences >= static_cast<int64_t>(report.bytes / 4192));
  const Tokenizer tokenizer(report.model);
  const std::string text = "short " + reserved + " line";
  REQUIRE(tokenizer.decode(tokenizer.encode(text)) == text);
}

TEST_CASE("tokenizer train: the tokenizer of a prepared corpus is not replaced by another one") {
  const ScratchFolder folder;
  auto training = small_training(folder);
  training.model_prefix = (folder / "corpus/tokenizer").string();
  const auto model = train_tokenizer(training).model;
  PrepareOptions options;
  options.inputs = {folder.write("a.txt", "one")};
  options.tokenizer = model;
  options.output = folder / "corpus";
  prepare_corpus(options);
  const std::string before = read_file(model);
  train_tokenizer(training);  // the same once more
  training.vocab_size -= 1;
  REQUIRE(contains(input_error_of([&] { train_tokenizer(training); }), "is the tokenizer of the corpus in"));
  REQUIRE(read_file(model) == before);
}

TEST_CASE("tokenizer train: pieces may contain line breaks") {
  const ScratchFolder folder;
  auto training = small_training(folder);
  std::string text;
  for (int64_t i = 0; i < 300; ++i) text += sample_document(i) + ".\n\n";
  training.inputs = {folder.write("paragraphs.txt", text)};
  const Tokenizer tokenizer(train_tokenizer(training).model);
  REQUIRE(tokenizer.encode("\n\n").size() == 1);
}

TEST_CASE(
    "text sample: bounded, the same every time, spread over the whole input, and another for another seed") {
  const auto take = [](uint64_t seed) {
    TextSample sample(seed, 10'000);
    for (int i = 0; i < 10'000; ++i) sample.add(std::to_string(100'000 + i));
    REQUIRE(sample.bytes() <= 10'000);
    REQUIRE(sample.bytes() > 9'980);
    return sample.take();
  };
  const auto first = take(1);
  REQUIRE(first == take(1));
  REQUIRE(first != take(2));
  REQUIRE(std::is_sorted(first.begin(), first.end()));
  const auto early =
      std::count_if(first.begin(), first.end(), [](const std::string& text) { return text < "105000"; });
  REQUIRE(early > 700);
  REQUIRE(early < 970);
}

TEST_CASE("text sample: a single long document is sampled in passages") {
  TextSample sample(1, 200'000);
  sample.add(std::string(1'000'003, 'a'));
  const auto passages = sample.take();
  REQUIRE(passages.size() == 3);
  for (const std::string& passage : passages) REQUIRE(passage.size() <= TextSample::kPassageBytes);
}
