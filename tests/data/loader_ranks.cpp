// Shares of a step for ranks that train together.
#include <memory>

#include "loader_case.h"
#include "support/catch.h"

using namespace transxssm;
using namespace transxssm::fixtures;

TEST_CASE("loader: the ranks' shares are the step, in order, and their state is that of one rank") {
  const TempFolder folder;
  write_shard(folder / "a", {numbered(41), numbered(3, 41), numbered(70, 44)});
  write_shard(folder / "b", {numbered(9, kSourceStride), numbered(36, kSourceStride + 9)});
  DataConfig data = config(folder, {{"a", 0.6}, {"b", 0.4}});
  data.packing = GENERATE(Packing::isolated, Packing::concatenated);
  const int64_t ranks = GENERATE(1, 2, 3, 4);
  const int64_t micro = GENERATE(1, 2);
  Loader whole(data, shape(24, 24));
  std::vector<std::unique_ptr<Loader>> shares;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    LoaderShape share = shape(24, micro);
    share.rank = rank;
    share.ranks = ranks;
    shares.push_back(std::make_unique<Loader>(data, share));
  }
  for (int step = 0; step < 7; ++step) {
    const GlobalBatch all = whole.next();
    std::vector<int64_t> joined;
    for (const auto& share : shares) {
      const GlobalBatch own = share->next();
      REQUIRE(own.micro_batches.size() == static_cast<size_t>(24 / ranks / micro));
      REQUIRE(own.counted_labels == all.counted_labels);
      for (const int64_t first : sequences(own)) joined.push_back(first);
      REQUIRE(share->consumed_tokens() == whole.consumed_tokens());
      REQUIRE(share->save_state() == whole.save_state());
    }
    REQUIRE(joined == sequences(all));
    if (step != 3) continue;
    whole.put_back();
    for (const auto& share : shares) share->put_back();
  }
}

TEST_CASE("loader: a global batch that the ranks can't divide names the nearest that they can") {
  const TempFolder folder;
  write_sources(folder, {{"a", 35}});
  const auto refusal = [&](int64_t global_batch, int64_t micro_batch, int64_t ranks) {
    LoaderShape with = shape(global_batch, micro_batch);
    with.ranks = ranks;
    return input_error_of([&] { Loader loader(config(folder, {{"a", 1}}), with); });
  };
  CHECK(refusal(512, 8, 3) ==
        "train.global_batch_size: 512 sequences can't be divided among 3 ranks in micro-batches of 8; "
        "nearest: global_batch_size 504 or 528, or 2 ranks");
  CHECK(refusal(12, 4, 2) ==
        "train.global_batch_size: 12 sequences can't be divided among 2 ranks in micro-batches of 4; "
        "nearest: global_batch_size 8 or 16, micro_batch_size 3, or 1 rank");
  CHECK(refusal(2, 2, 4) ==
        "train.global_batch_size: 2 sequences can't be divided among 4 ranks in micro-batches of 2; "
        "nearest: global_batch_size 8, or 1 rank");
}
