// The loader: every window once an epoch, one order whatever the micro-batch, and exact resumption.
#include "data/loader.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <thread>

#include "loader_case.h"
#include "support/catch.h"

using namespace transxssm;
using namespace transxssm::fixtures;

namespace {

std::vector<int64_t> run(Loader& loader, int steps) {
  std::vector<int64_t> firsts;
  for (int i = 0; i < steps; ++i) {
    const auto step = sequences(loader.next());
    firsts.insert(firsts.end(), step.begin(), step.end());
  }
  return firsts;
}

std::vector<int64_t> of_source(const std::vector<int64_t>& firsts, int64_t source) {
  std::vector<int64_t> out;
  for (const int64_t first : firsts) {
    if (first / kSourceStride == source) out.push_back(first);
  }
  return out;
}

// Windows of every full epoch come once each.
bool epochs_are_complete(const std::vector<int64_t>& firsts, size_t windows) {
  for (size_t epoch = 0; (epoch + 1) * windows <= firsts.size(); ++epoch) {
    const auto begin = firsts.begin() + static_cast<std::ptrdiff_t>(epoch * windows);
    if (std::set<int64_t>(begin, begin + static_cast<std::ptrdiff_t>(windows)).size() != windows)
      return false;
  }
  return true;
}

}  // namespace

TEST_CASE("loader: an epoch has every window once, and each epoch another order") {
  const TempFolder folder;
  write_sources(folder, {{"a", 35}});
  Loader loader(config(folder, {{"a", 1}}), shape(5, 5));
  CHECK(loader.tokens_per_epoch() == 35 * kSeqLen);
  const auto first = run(loader, 7);
  const auto second = run(loader, 7);
  CHECK(std::set<int64_t>(first.begin(), first.end()).size() == 35);
  CHECK(std::set<int64_t>(second.begin(), second.end()).size() == 35);
  CHECK(first != second);
  CHECK(loader.consumed_sequences() == 70);
  CHECK(loader.consumed_tokens() == 70 * kSeqLen);
}

TEST_CASE("loader: the order depends on the seed and on nothing else") {
  const TempFolder folder;
  write_sources(folder, {{"a", 101}});
  DataConfig data = config(folder, {{"a", 1}});
  const auto first = [&] {
    Loader loader(data, shape(6, 2));
    return run(loader, 9);
  };
  const auto once = first();
  CHECK(first() == once);
  data.seed = 2;
  CHECK(first() != once);
}

TEST_CASE("loader: the micro-batch changes neither the sequences of a step nor their order") {
  const TempFolder folder;
  write_sources(folder, {{"a", 23}, {"b", 11}});
  const DataConfig data = config(folder, {{"a", 0.6}, {"b", 0.4}});
  Loader whole(data, shape(12, 12));
  const int64_t micro = GENERATE(1, 2, 3, 4, 6);
  Loader split(data, shape(12, micro));
  for (int step = 0; step < 7; ++step) {
    const GlobalBatch a = whole.next();
    const GlobalBatch b = split.next();
    REQUIRE(b.micro_batches.size() == static_cast<size_t>(12 / micro));
    REQUIRE(sequences(a) == sequences(b));
    REQUIRE(a.counted_labels == b.counted_labels);
  }
}

TEST_CASE("loader: tokens, labels and counts of a step are those of its documents") {
  const TempFolder folder;
  write_shard(folder / "a", {numbered(3), numbered(1, 3), numbered(5, 4)});
  DataConfig data = config(folder, {{"a", 1}});
  Loader loader(data, shape(2, 1));
  const GlobalBatch step = loader.next();
  int64_t counted = 0;
  for (const Batch& batch : step.micro_batches) {
    const bool first = batch.tokens[0] == 0;
    CHECK(batch.tokens == (first ? std::vector<int64_t>{0, 1, 2, 3} : std::vector<int64_t>{4, 5, 6, 7}));
    CHECK(batch.labels == (first ? std::vector<int64_t>{1, 2, -1, -1} : std::vector<int64_t>{5, 6, 7, 8}));
    CHECK(batch.document_offsets[0] == 0);
    CHECK(batch.document_offsets[1] == (first ? 3 : 4));
    counted += batch.counted_labels;
  }
  CHECK(counted == 6);
  CHECK(step.counted_labels == 6);

  data.packing = Packing::concatenated;
  CHECK(Loader(data, shape(2, 1)).next().counted_labels == 8);
}

TEST_CASE("loader: resumed anywhere, inside an epoch or across, it gives the same stream") {
  const TempFolder folder;
  write_sources(folder, {{"a", 17}, {"b", 5}});
  const DataConfig data = config(folder, {{"a", 2}, {"b", 1}});
  Loader whole(data, shape(4, 2));
  const auto expected = run(whole, 20);
  const int stop = GENERATE(0, 1, 4, 7, 13);
  Loader before(data, shape(4, 2));
  auto stream = run(before, stop);
  const auto state = nlohmann::json::parse(before.save_state().dump());
  CHECK(before.save_state() == state);

  Loader after(data, shape(4, 1));
  run(after, 2);
  after.load_state(state);
  CHECK(after.save_state() == state);
  CHECK(after.consumed_sequences() == 4 * stop);
  const auto rest = run(after, 20 - stop);
  stream.insert(stream.end(), rest.begin(), rest.end());
  CHECK(stream == expected);
  CHECK(after.save_state() == whole.save_state());
}

TEST_CASE("loader: the state is that of what was handed out, not of what the thread has prepared") {
  const TempFolder folder;
  write_sources(folder, {{"a", 9}});
  Loader loader(config(folder, {{"a", 1}}), shape(3, 3));
  const auto fresh = loader.save_state();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(loader.save_state() == fresh);
  CHECK(fresh["sequences"] == 0);
  loader.next();
  CHECK(loader.save_state()["sequences"] == 3);
}

TEST_CASE("loader: a batch that is put back comes again, and the state is that before it") {
  const TempFolder folder;
  write_sources(folder, {{"a", 17}, {"b", 5}});
  const DataConfig data = config(folder, {{"a", 2}, {"b", 1}});
  Loader whole(data, shape(4, 2));
  Loader loader(data, shape(4, 2));
  REQUIRE_THROWS(loader.put_back());
  const auto expected = run(whole, 6);
  auto stream = run(loader, 3);
  const auto state = loader.save_state();
  loader.next();
  loader.put_back();
  CHECK(loader.save_state() == state);
  CHECK(loader.consumed_sequences() == 12);
  REQUIRE_THROWS(loader.put_back());
  const auto rest = run(loader, 3);
  stream.insert(stream.end(), rest.begin(), rest.end());
  CHECK(stream == expected);
  CHECK(loader.save_state() == whole.save_state());
}

TEST_CASE("loader: sources get their shares, by size when no weight is given") {
  const TempFolder folder;
  write_sources(folder, {{"a", 30}, {"b", 10}});
  DataConfig data = config(folder, {{"a", 1}, {"b", 1}});
  Loader equal(data, shape(8, 8));
  CHECK(of_source(run(equal, 5), 1).size() == 20);
  data.train[0].weight.reset();
  data.train[1].weight.reset();
  Loader by_size(data, shape(8, 8));
  CHECK(of_source(run(by_size, 5), 1).size() == 10);
}

TEST_CASE("loader: weights changed between runs neither repeat nor skip data") {
  const TempFolder folder;
  write_sources(folder, {{"a", 37}, {"b", 13}});
  Loader before(config(folder, {{"a", 0.9}, {"b", 0.1}}), shape(5, 5));
  auto stream = run(before, 11);
  Loader after(config(folder, {{"a", 0.2}, {"b", 0.8}}), shape(5, 5));
  after.load_state(before.save_state());
  const auto rest = run(after, 20);
  // The new weights hold at once, without making up for the time before.
  CHECK(of_source(rest, 0).size() == 20);
  CHECK(of_source(rest, 1).size() == 80);
  stream.insert(stream.end(), rest.begin(), rest.end());
  CHECK(epochs_are_complete(of_source(stream, 0), 37));
  CHECK(epochs_are_complete(of_source(stream, 1), 13));

  // And the order inside a source is what it would have been with the new weights from the start.
  Loader fresh(config(folder, {{"a", 0.2}, {"b", 0.8}}), shape(5, 5));
  const auto unchanged = of_source(run(fresh, 70), 0);
  const auto changed = of_source(stream, 0);
  CHECK(std::equal(changed.begin(), changed.begin() + 50, unchanged.begin()));
}

TEST_CASE("loader: a new source starts at its beginning and a removed one keeps its place") {
  const TempFolder folder;
  write_sources(folder, {{"a", 37}, {"b", 13}});
  Loader both(config(folder, {{"a", 1}, {"b", 1}}), shape(4, 4));
  const auto first = run(both, 3);
  Loader only_a(config(folder, {{"a", 1}}), shape(4, 4));
  only_a.load_state(both.save_state());
  const auto second = run(only_a, 2);
  Loader both_again(config(folder, {{"b", 1}, {"a", 1}}), shape(4, 4));
  both_again.load_state(only_a.save_state());
  const auto third = run(both_again, 10);

  std::vector<int64_t> stream = first;
  stream.insert(stream.end(), second.begin(), second.end());
  stream.insert(stream.end(), third.begin(), third.end());
  CHECK(of_source(stream, 0).size() == 6 + 8 + 20);
  CHECK(epochs_are_complete(of_source(stream, 1), 13));
  CHECK(std::set<int64_t>(stream.begin(), stream.end()).size() == 34 + 13);
}

TEST_CASE("loader: moved data keep their order and their place") {
  const TempFolder folder;
  write_sources(folder, {{"a", 37}, {"b", 13}});
  Loader whole(config(folder, {{"a", 2}, {"b", 1}}), shape(4, 4));
  const auto expected = run(whole, 12);
  Loader before(config(folder, {{"a", 2}, {"b", 1}}), shape(4, 4));
  auto stream = run(before, 5);

  for (const std::string end : {".bin", ".idx"}) {
    fs::rename(folder / ("a" + end), folder / ("elsewhere" + end));
    fs::copy(folder / ("b" + end), folder / ("copy" + end));
  }
  const int64_t steps = GENERATE(5, 0);
  Loader after(config(folder, {{"elsewhere", 2}, {"copy", 1}}), shape(4, 4));
  if (steps == 0) {  // from the start
    CHECK(run(after, 12) == expected);
    return;
  }
  after.load_state(before.save_state());
  const auto rest = run(after, 7);
  stream.insert(stream.end(), rest.begin(), rest.end());
  CHECK(stream == expected);
  CHECK(after.save_state()["sources"].size() == 2);
}

TEST_CASE("loader: a source that is no longer the same stream goes on with its next epoch") {
  const TempFolder folder;
  write_sources(folder, {{"a", 20}});
  const DataConfig data = config(folder, {{"a", 1}});
  Loader before(data, shape(5, 5));
  run(before, 6);
  write_sources(folder, {{"a", 30}});
  Loader after(data, shape(5, 5));
  after.load_state(before.save_state());
  CHECK(after.save_state()["sources"][(folder / "a").string()]["cursor"] == 60);
  CHECK(after.consumed_sequences() == 30);
  const auto epoch = run(after, 6);
  CHECK(std::set<int64_t>(epoch.begin(), epoch.end()).size() == 30);
}

TEST_CASE("loader: a data state that is none is refused") {
  const TempFolder folder;
  write_sources(folder, {{"a", 20}});
  Loader loader(config(folder, {{"a", 1}}), shape(5, 5));
  auto state = loader.save_state();
  const auto load = [&](const nlohmann::json& bad) {
    return input_error_of([&] { loader.load_state(bad); });
  };
  CHECK(contains(load({}), "data state"));
  state["sources"][(folder / "a").string()]["cursor"] = -1;
  CHECK(contains(load(state), "data state"));
  CHECK(run(loader, 4).size() == 20);
}

TEST_CASE("loader: data.split keeps held-out windows out of training") {
  const TempFolder folder;
  write_sources(folder, {{"a", 20}});
  DataConfig data = config(folder, {{"a", 1}});
  data.split = {0.75, 0.25};
  Loader loader(data, shape(5, 5));
  CHECK(loader.tokens_per_epoch() == 15 * kSeqLen);
  for (const int64_t first : run(loader, 9)) REQUIRE(first < 15 * kSeqLen);
}

TEST_CASE("loader: an id outside the vocabulary comes out of next() with file, place and id") {
  const TempFolder folder;
  write_sources(folder, {{"a", 6}});
  Loader loader(config(folder, {{"a", 1}}), shape(6, 3, 20));
  const auto message = input_error_of([&] { loader.next(); });
  CHECK(contains(message, "a.bin: token "));
  CHECK(contains(message, "outside the vocabulary of 20"));
  CHECK(!input_error_of([&] { loader.next(); }).empty());
}

TEST_CASE("loader: unusable sources, weights and shapes are refused at once") {
  const TempFolder folder;
  write_sources(folder, {{"a", 6}, {"b", 6}});
  write_shard(folder / "short", {numbered(4)});
  const auto open = [&](const DataConfig& data, const LoaderShape& with) {
    return input_error_of([&] { Loader loader(data, with); });
  };
  const LoaderShape good = shape(4, 2);
  CHECK(contains(open({}, good), "data.train"));
  CHECK(contains(open(config(folder, {{"absent", 1}}), good), "absent: no token files found"));
  CHECK(contains(open(config(folder, {{"a", 1}, {"short", 1}}), good), "short: holds 4 tokens"));
  CHECK(contains(open(config(folder, {{"a", 1}, {"a", 1}}), good), "a is there twice"));
  CHECK(contains(open(config(folder, {{"a", 0}, {"b", 0}}), good), "no source has a weight above 0"));
  CHECK(contains(open(config(folder, {{"a", 1}, {"b", -1}}), good), "b has the weight -1"));
  DataConfig mixed = config(folder, {{"a", 1}, {"b", 1}});
  mixed.train[1].weight.reset();
  CHECK(contains(open(mixed, good), "b lacks a weight"));
  CHECK(contains(open(config(folder, {{"a", 1}}), shape(4, 3)), "train.global_batch_size"));
}

TEST_CASE("loader: training on a sparse 100 GB shard starts in under a second") {
  const TempFolder folder;
  constexpr int32_t kLength = 2'000'000'000;  // tokens of a sequence; 25 of them, 2 bytes each
  std::vector<int32_t> lengths(25, kLength);
  std::vector<int64_t> offsets;
  std::vector<int64_t> boundaries{0};
  for (int64_t i = 0; i < 25; ++i) {
    offsets.push_back(i * kLength * 2);
    boundaries.push_back(i + 1);
  }
  megatron_index(8, lengths, offsets, boundaries).save(folder / "a.idx");
  try {
    Bytes{}.save(folder / "a.bin");
    fs::resize_file(folder / "a.bin", int64_t{25} * kLength * 2);
  } catch (const fs::filesystem_error&) {
    WARN("skipped: this file system has no sparse files of 100 GB");
    return;
  }
  // The fastest of three, since the machine may be busy with something else.
  auto fastest = std::chrono::steady_clock::duration::max();
  for (int attempt = 0; attempt < 3; ++attempt) {
    const auto start = std::chrono::steady_clock::now();
    Loader loader(config(folder, {{"a", 1}}), shape(64, 8));
    REQUIRE(loader.next().micro_batches.size() == 8);
    fastest = std::min(fastest, std::chrono::steady_clock::now() - start);
    REQUIRE(loader.tokens_per_epoch() == int64_t{25} * kLength - kSeqLen);
  }
  CHECK(fastest < std::chrono::seconds(1));
}
