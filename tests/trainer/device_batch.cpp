// Micro-batches on their way to the device: documents are checked on the host, whatever the device.
#include "trainer/device_batch.h"

#include "support/catch.h"
#include "support/require_error.h"

using namespace transxssm;

TEST_CASE("batch buffers: documents that do not tile the rows are refused") {
  Batch batch;
  batch.batch = 2;
  batch.seq_len = 5;
  batch.tokens.assign(10, 1);
  batch.labels.assign(10, 1);
  batch.document_offsets = {0, 2, 5, 10};
  BatchBuffers buffers(batch, at::kCPU);
  REQUIRE_NOTHROW(buffers.fill(batch));
  const auto refuses = [&](std::vector<int32_t> offsets, const std::string& says) {
    batch.document_offsets = std::move(offsets);
    require_error([&] { buffers.fill(batch); }, says);
  };
  refuses({0, 2, 5, 9}, "document offsets: expected 0 to 10, got 0 to 9");
  refuses({1, 2, 5, 10}, "document offsets: expected 0 to 10, got 1 to 10");
  refuses({0, 5, 2, 10}, "document offsets: entry 2 (2) lies before entry 1 (5)");
  refuses({0, 2, 6, 10}, "within rows of 5 tokens, got one from 2 to 6");
}
