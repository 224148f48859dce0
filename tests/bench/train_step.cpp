// The batches that `bench step` times are of the kind that its rows are called after.
#include "bench/train_step.h"

#include <vector>

#include "support/catch.h"

using namespace transxssm;

TEST_CASE("bench step: one document a window is known to the program, isolated ones have room") {
  RunConfig config;
  config.train.micro_batch_size = 3;
  config.train.seq_len = 1024;
  const Batch whole = bench::random_batch(config, Packing::concatenated, 1).micro_batches.front();
  REQUIRE(whole.document_offsets == std::vector<int32_t>{0, 1024, 2048, 3072});
  REQUIRE(whole.counted_labels == 3072);
  const Batch isolated = bench::random_batch(config, Packing::isolated, 1).micro_batches.front();
  REQUIRE(isolated.document_offsets.size() == 3 + 3 * 1024 / 512 + 1);
  REQUIRE(isolated.document_offsets[1] < 1024);
  REQUIRE(isolated.counted_labels < 3072);
}
