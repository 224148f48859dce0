// Shards as one stream: windows, document starts across shard borders, split and bad data.
#include "data/token_source.h"

#include "shard_fixtures.h"
#include "support/catch.h"

using namespace transxssm;
using namespace transxssm::fixtures;

using Starts = std::vector<int64_t>;

TEST_CASE("token source: windows overlap by one token and the tail without a whole window is left out") {
  const TempFolder folder;
  const int64_t tokens = GENERATE(5, 6, 8, 9, 10);
  write_shard(folder / "a", {numbered(tokens)});
  const TokenSource source((folder / "a").string());
  CHECK(source.num_tokens() == tokens);
  REQUIRE(source.num_windows(4) == (tokens - 1) / 4);
  CHECK(source.window(0, 4, 100).tokens == numbered(5));
  if (tokens >= 9) CHECK(source.window(1, 4, 100).tokens == numbered(5, 4));
}

TEST_CASE("token source: document starts inside a window, at its end and at its start") {
  const TempFolder folder;
  // Documents start at 0, 3, 4, 4 (one without tokens), 8, 9.
  write_shard(folder / "a",
              {numbered(3), numbered(1, 3), {}, numbered(4, 4), numbered(1, 8), numbered(4, 9)});
  const TokenSource source((folder / "a").string());
  CHECK(source.window(0, 4, 100).document_starts == Starts{3, 4});
  CHECK(source.window(1, 4, 100).document_starts == Starts{4});
  CHECK(source.window(2, 4, 100).document_starts == Starts{1});
  CHECK(source.window(0, 12, 100).document_starts == Starts{3, 4, 8, 9});
}

TEST_CASE("token source: a window may span shards, each of which starts a document") {
  const TempFolder folder;
  write_shard(folder / "a", {numbered(2), numbered(1, 2), {}});
  write_shard(folder / "b", {});
  write_shard(folder / "c", {{}, numbered(1, 3)});
  write_llmc(folder / "d.bin", numbered(5, 4));
  const TokenSource source(folder.path().string());
  CHECK(source.num_tokens() == 9);
  const Window whole = source.window(0, 8, 100);
  CHECK(whole.tokens == numbered(9));
  CHECK(whole.document_starts == Starts{2, 3, 4});
  CHECK(source.window(1, 3, 100).tokens == numbered(4, 3));
  CHECK(source.window(1, 3, 100).document_starts == Starts{1});
  CHECK(source.window(1, 2, 100).document_starts == Starts{1, 2});
}

TEST_CASE("token source: windows agree with the documents they were cut from") {
  const TempFolder folder;
  std::vector<int64_t> starts;
  Documents documents;
  int32_t next = 0;
  for (int shard = 0; shard < 3; ++shard) {
    documents.clear();
    for (int i = 0; i < 40; ++i) {
      const int length = (i * i * 7 + shard * 3 + i) % 11;
      if (length > 0) starts.push_back(next);
      documents.push_back(numbered(length, next));
      next += length;
    }
    write_shard(folder / std::string(1, static_cast<char>('a' + shard)), documents);
  }
  const TokenSource source(folder.path().string());
  REQUIRE(source.num_tokens() == next);
  const int64_t seq_len = GENERATE(1, 2, 3, 7, 16, 61);
  for (int64_t w = 0; w < source.num_windows(seq_len); ++w) {
    const int64_t begin = w * seq_len;
    Starts expected;
    for (const int64_t start : starts) {
      if (start > begin && start <= begin + seq_len) expected.push_back(start - begin);
    }
    const Window window = source.window(w, seq_len, next);
    REQUIRE(window.tokens == numbered(seq_len + 1, static_cast<int32_t>(begin)));
    REQUIRE(window.document_starts == expected);
  }
}

TEST_CASE("token source: an id outside the vocabulary is named with file, place and id") {
  const TempFolder folder;
  write_shard(folder / "a", {numbered(5)});
  write_shard(folder / "b", {{1, 2, 3, 77, 4}});
  const TokenSource source(folder.path().string());
  CHECK_NOTHROW(source.window(0, 9, 78));
  const auto message = input_error_of([&] { source.window(0, 9, 77); });
  CHECK(contains(message,
                 (folder / "b.bin").string() + ": token 3 has the id 77, outside the vocabulary of 77"));

  Bytes().put(int32_t{0}).put(int32_t{-5}).save(folder / "negative.bin");
  megatron_index(4, {2}, {0}, {0, 1}).save(folder / "negative.idx");
  const TokenSource negative((folder / "negative").string());
  CHECK(contains(input_error_of([&] { negative.window(0, 1, 77); }), "token 1 has the id -5"));
}

TEST_CASE("token source: documents out of order in the index are refused where they are met") {
  const TempFolder folder;
  Bytes{std::string(16, '\1')}.save(folder / "a.bin");
  megatron_index(8, {2, 2, 2, 2}, {0, 4, 8, 12}, {0, 2, 1, 3, 4}).save(folder / "a.idx");
  const TokenSource source((folder / "a").string());
  CHECK(contains(input_error_of([&] { source.window(0, 7, 60000); }), "document 2 starts at token 2"));
}

TEST_CASE("split_windows: training and validation share no window and leave none out") {
  const TempFolder folder;
  write_shard(folder / "a", {numbered(101)});
  const std::string path = (folder / "a").string();
  const auto counts = [&](double held_out) {
    const auto [training, validation] = split_windows(path, 10, {1 - held_out, held_out});
    CHECK(training.first == 0);
    CHECK(validation.first == training.count);
    CHECK(training.count + validation.count == 10);
    return validation.count;
  };
  CHECK(counts(0.3) == 3);
  CHECK(counts(0.001) == 1);
  CHECK(counts(0.999) == 9);
  const auto [all, none] = split_windows(path, 10, {});
  CHECK(all.count == 10);
  CHECK(none.count == 0);
}

TEST_CASE("split_windows: data too small for a window, or for both parts, is refused") {
  const TempFolder folder;
  write_shard(folder / "a", {numbered(20)});
  write_shard(folder / "empty", {});
  const auto split = [&](const std::string& name, int64_t seq_len, const std::vector<double>& shares) {
    return input_error_of([&] { split_windows((folder / name).string(), seq_len, shares); });
  };
  CHECK(split("a", 19, {}).empty());
  CHECK(contains(split("a", 20, {}), "a: holds 20 tokens; a window of train.seq_len 20 needs 21"));
  CHECK(contains(split("empty", 4, {}), "empty: holds 0 tokens"));
  CHECK(contains(split("a", 19, {0.5, 0.5}), "data.split needs two"));
  CHECK(contains(split("a", 4, {0.5, 0.25, 0.25}), "data.split"));
  CHECK(contains(split("a", 4, {1, 0}), "data.split"));
  CHECK(contains(split("absent", 4, {}), "no token files found"));
}
