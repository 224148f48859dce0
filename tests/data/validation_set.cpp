// Validation sets: the same windows at any batch size, counts of labels and bytes.
#include "data/validation_set.h"

#include <set>

#include "shard_fixtures.h"
#include "support/catch.h"

using namespace transxssm;
using namespace transxssm::fixtures;

namespace {

constexpr int64_t kSeqLen = 4;

LoaderShape shape(int64_t micro_batch, int64_t vocab_size = 60000) {
  return {
      .seq_len = kSeqLen, .global_batch_size = 8, .micro_batch_size = micro_batch, .vocab_size = vocab_size};
}

std::vector<int64_t> first_tokens(const ValidationSet& set) {
  std::vector<int64_t> firsts;
  for (int64_t i = 0; i < set.num_batches(); ++i) {
    const Batch batch = set.batch(i);
    for (int64_t row = 0; row < batch.batch; ++row) firsts.push_back(batch.tokens[row * kSeqLen]);
  }
  return firsts;
}

}  // namespace

TEST_CASE("validation set: the same windows at any batch size, spread over the whole set") {
  const TempFolder folder;
  write_shard(folder / "v", {numbered(29 * kSeqLen + 2)});
  const int64_t micro = GENERATE(1, 2, 3, 7, 8);
  const ValidationSet set("heldout", (folder / "v").string(), {}, shape(micro), 7, {});
  CHECK(set.name() == "heldout");
  CHECK(set.num_sequences() == 7);
  CHECK(set.num_batches() == (7 + micro - 1) / micro);
  // ⌊s · 29 / 7⌋
  CHECK(first_tokens(set) == std::vector<int64_t>{0, 16, 32, 48, 64, 80, 96});
  CHECK(set.counted_labels() == 28);
  CHECK(set.counted_bytes() == 0);
}

TEST_CASE("validation set: a small set is used whole") {
  const TempFolder folder;
  write_shard(folder / "v", {numbered(3 * kSeqLen + 1)});
  const ValidationSet set("heldout", (folder / "v").string(), {}, shape(2), 512, {});
  CHECK(first_tokens(set) == std::vector<int64_t>{0, 4, 8});
  CHECK(set.batch(0).batch == 2);
  CHECK(set.batch(1).batch == 1);
}

TEST_CASE("validation set: bytes are those of the counted labels") {
  const TempFolder folder;
  // BOS 1, EOS 2; one window of 8 tokens and a label: "1 10 11 2 | 1 12 2 | 1 | 13".
  write_shard(folder / "v", {{1, 10, 11, 2}, {1, 12, 2}, {1}, {13}});
  std::vector<int32_t> bytes(13, 0);
  bytes[10] = 3;
  bytes[11] = 5;
  bytes[12] = 7;
  DataConfig data;
  LoaderShape eight = shape(1);
  eight.seq_len = 8;
  const std::string path = (folder / "v").string();
  const ValidationSet isolated("v", path, data, eight, 1, bytes);
  CHECK(isolated.counted_labels() == 5);
  CHECK(isolated.counted_bytes() == 15);
  data.packing = Packing::concatenated;
  const ValidationSet concatenated("v", path, data, eight, 1, bytes);
  CHECK(concatenated.counted_labels() == 8);
  CHECK(concatenated.counted_bytes() == 15);
}

TEST_CASE("validation set: bad data is refused when the set is made") {
  const TempFolder folder;
  write_shard(folder / "v", {numbered(50)});
  const auto make = [&](const std::string& name, int64_t seq_len, int64_t vocab_size) {
    LoaderShape with = shape(2, vocab_size);
    with.seq_len = seq_len;
    return input_error_of([&] { ValidationSet("v", (folder / name).string(), {}, with, 4, {}); });
  };
  CHECK(make("v", 4, 50).empty());
  CHECK(contains(make("v", 7, 20), "outside the vocabulary of 20"));
  CHECK(contains(make("v", 50, 60), "v: holds 50 tokens"));
  CHECK(contains(make("absent", 4, 60), "no token files found"));
}

TEST_CASE("validation sets: what data.split holds out is no window of training") {
  const TempFolder folder;
  write_shard(folder / "a", {numbered(20 * kSeqLen + 1)});
  write_shard(folder / "b", {numbered(10 * kSeqLen + 1, 10000)});
  DataConfig data;
  data.train = {{(folder / "a").string(), {}}, {(folder / "b").string(), {}}};
  data.split = {0.8, 0.2};
  const auto sets = make_validation_sets(data, shape(4), 512, {});
  REQUIRE(sets.size() == 1);
  CHECK(sets[0].name() == "split");
  CHECK(first_tokens(sets[0]) == std::vector<int64_t>{64, 68, 72, 76, 10032, 10036});

  Loader loader(data, shape(4));
  std::set<int64_t> trained;
  for (int step = 0; step < 6; ++step) {
    for (const Batch& batch : loader.next().micro_batches)
      trained.insert(batch.tokens.begin(), batch.tokens.end());
  }
  for (const int64_t first : first_tokens(sets[0])) CHECK(trained.count(first) == 0);
}

TEST_CASE("validation sets: one for each path of data.validation, by name") {
  const TempFolder folder;
  write_shard(folder / "a", {numbered(20)});
  DataConfig data;
  data.validation = {{"one", (folder / "a").string()}, {"two", (folder / "a").string()}};
  const auto sets = make_validation_sets(data, shape(4), 2, {});
  REQUIRE(sets.size() == 2);
  CHECK(sets[0].name() == "one");
  CHECK(sets[1].name() == "two");
  CHECK(make_validation_sets({}, shape(4), 2, {}).empty());
}
